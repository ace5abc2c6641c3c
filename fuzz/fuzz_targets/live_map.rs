#![no_main]

maimo_fuzz::target!("live_map");
