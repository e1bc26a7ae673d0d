//! What a device is called when nobody says otherwise.

/// Longest default name; people read it in a list.
const NAME_CHARS_MAX: usize = 32;

/// This machine's host name without its domain, or "device" where there is none.
#[must_use]
pub fn default_device_name() -> String {
    let from_env = ["HOSTNAME", "COMPUTERNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let host = std::fs::read_to_string("/etc/hostname").ok().or(from_env);
    host.as_deref().and_then(cleaned).unwrap_or_else(|| "device".into())
}

fn cleaned(host: &str) -> Option<String> {
    let host = host.trim().split('.').next().unwrap_or_default();
    let name: String =
        host.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).take(NAME_CHARS_MAX).collect();
    if name.is_empty() { None } else { Some(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_loses_its_domain_and_what_is_no_name() {
        assert_eq!(cleaned("beast.home.example\n").as_deref(), Some("beast"));
        assert_eq!(cleaned("a\u{1b}[31m b").as_deref(), Some("a31mb"));
        assert_eq!(cleaned(&"x".repeat(100)).map(|name| name.len()), Some(NAME_CHARS_MAX));
        assert_eq!(cleaned(" \n"), None);
        assert_eq!(cleaned(".local"), None);
    }
}
