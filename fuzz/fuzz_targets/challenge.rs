#![no_main]

maimo_fuzz::target!("challenge");
