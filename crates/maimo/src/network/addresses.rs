//! Where others find this node with TCP, as far as that is known before it serves.

use maimo_core::address::Address;

use crate::config::Config;

/// Returns where others find the node with TCP; none where that is known only once it listens.
pub(crate) fn announced_by_tcp(config: &Config) -> Vec<Address> {
    if !config.announce.value.is_empty() {
        return config.announce.value.clone();
    }
    let listen = config.listen.value.iter();
    // Any address and any port are for listening: nobody could connect to them.
    let named = listen.filter(|at| !at.ip().is_unspecified());
    named.filter_map(|at| Address::tcp(*at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_goes_before_where_it_listens() {
        let found = |text: &str| {
            let config = Config::of_text(text).unwrap();
            let all = announced_by_tcp(&config).into_iter();
            all.map(|address| address.to_string()).collect::<Vec<_>>()
        };
        let listens = "listen = ['192.0.2.1:4243', '0.0.0.0:4243', '192.0.2.2:0']\n";
        assert_eq!(found(listens), ["192.0.2.1:4243"]);
        let both = format!("{listens}announce = ['node.example:4243']");
        assert_eq!(found(&both), ["node.example:4243"]);
        assert!(found("").is_empty());
    }
}
