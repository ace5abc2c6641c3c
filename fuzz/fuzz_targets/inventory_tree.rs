#![no_main]

maimo_fuzz::target!("inventory_tree");
