//! Names as they stand in the source.

use cpp_demangle::DemangleOptions;

/// What compilers append to the names of parts and copies of a function.
const COPIES: [&str; 7] = [".cold", ".part.", ".isra.", ".constprop.", ".llvm.", ".lto_priv.", ".localalias"];

/// A symbol's name in the words of its language: C++ without parameters, Rust without hashes, C as it is.
pub(super) fn demangle(symbol: &str) -> String {
    // `memcpy@@GLIBC_2.14`, but not the `@` of another language in the middle of an operator.
    let symbol = symbol.split_once('@').map_or(symbol, |(name, _)| if name.is_empty() { symbol } else { name });
    let symbol = COPIES.iter().filter_map(|copy| symbol.find(copy)).min().map_or(symbol, |end| &symbol[..end]);
    if let Ok(rust) = rustc_demangle::try_demangle(symbol) {
        return format!("{rust:#}");
    }
    let options = DemangleOptions::new().no_params().no_return_type();
    let of_cpp = symbol.starts_with("_Z").then(|| cpp_demangle::Symbol::new(symbol).ok());
    let name = of_cpp.flatten().and_then(|name| name.demangle_with_options(&options).ok());
    name.unwrap_or_else(|| symbol.to_owned())
}

#[cfg(test)]
mod tests {
    use super::demangle;

    #[test]
    fn every_language_reads_as_its_source() {
        for (symbol, name) in [
            ("_ZN4pool4Pool3getEi", "pool::Pool::get"),
            ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back"),
            ("_ZN3app4pool4Pool3get17h05af221e174051e9E", "app::pool::Pool::get"),
            ("_RNvCskwGfYPst2Cb_3foo16example_function", "foo::example_function"),
            ("_ZN4pool4Pool3getEi.part.0.cold", "pool::Pool::get"),
            ("write@@GLIBC_2.2.5", "write"),
            ("main.cold", "main"),
            ("main.main", "main.main"),
            ("_Z", "_Z"),
        ] {
            assert_eq!(demangle(symbol), name, "{symbol}");
        }
    }
}
