#![no_main]

maimo_fuzz::target!("audit_receipt");
