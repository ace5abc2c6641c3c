#![no_main]

maimo_fuzz::target!("key_file");
