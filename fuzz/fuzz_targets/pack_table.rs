#![no_main]

maimo_fuzz::target!("pack_table");
