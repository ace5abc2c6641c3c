#![no_main]

maimo_fuzz::target!("digest_request");
