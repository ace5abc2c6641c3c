#![no_main]

maimo_fuzz::target!("wire_response");
