# Sourced by the scripts that need a nightly toolchain. Sets `nightly` and sees to it that the components are there.
# FANFARE_NIGHTLY chooses another one than the newest, for example nightly-2026-05-20.

nightly=${FANFARE_NIGHTLY:-nightly}

# need_nightly COMPONENT...
need_nightly() {
    if ! rustup run "$nightly" rustc --version >/dev/null 2>&1; then
        rustup toolchain install "$nightly" --profile minimal --no-self-update
    fi
    rustup component add --toolchain "$nightly" "$@"
    rustup run "$nightly" rustc --version
}
