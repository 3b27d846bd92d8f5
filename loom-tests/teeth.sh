#!/usr/bin/env bash
# The teeth of the models: weakens one thing at a time in a copy of the sources and expects a model to fail.
#
#   loom-tests/teeth.sh              all of them, about a quarter of an hour on two cores
#   loom-tests/teeth.sh leaf- top-   those whose name begins with one of these words
#   loom-tests/teeth.sh --list       names only
#   loom-tests/teeth.sh --sites      changes each site, builds nothing: fails if a site is gone
#
# Prints the table of TEETH.md. Fails if a weakening no longer applies, does not compile, or no model fails; a blunt one
# is only looked for. Builds are kept in TEETH_TARGET_DIR, if that is set.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

mode=run
words=()
for argument in "$@"; do
    case $argument in
        --list) mode=list ;;
        --sites) mode=sites ;;
        *) words+=("$argument") ;;
    esac
done

# They would replace the cfg that is given below.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
copy=$scratch/copy
mkdir "$copy"
tar --exclude=./target --exclude=./.git -cf - . | tar -xf - -C "$copy"
cp -r "$copy/src" "$scratch/pristine"
target=${TEETH_TARGET_DIR:-$scratch/target}

selected() {
    [ ${#words[@]} -eq 0 ] && return 0
    local word
    for word in "${words[@]}"; do
        [[ $1 == "$word"* ]] && return 0
    done
    return 1
}

# edit FILE PERL: one substitution that has to change the file.
edit() {
    local file=$copy/src/$1
    cp "$file" "$scratch/before"
    perl -0777 -pi -e "$2" "$file"
    if cmp -s "$scratch/before" "$file"; then
        echo "teeth: $name: the site in src/$1 is gone: $2" >&2
        gone=1
    fi
}

build() {
    (cd "$copy" && CARGO_PROFILE_LOOM_INCREMENTAL=true CARGO_PROFILE_LOOM_CODEGEN_UNITS=16 CARGO_PROFILE_LOOM_OPT_LEVEL=1 \
        cargo test --quiet --package loom-tests --profile loom --target-dir "$target" \
        --config 'build.rustflags = ["--cfg", "fanfare_loom", "--allow", "warnings"]' \
        --no-run --message-format=json 2>"$scratch/build") |
        sed -n 's/.*"executable":"\([^"]*loom_tests-[^"]*\)".*/\1/p' | tail -1
}

failed=0
gone=0

# bite DESCRIPTION MODELS…: builds what was weakened and runs the models, until one fails.
bite() {
    local description=$1 binary model row
    shift
    binary=$(build) || true
    if [ -z "$binary" ]; then
        echo "teeth: $name does not compile:" >&2
        cat "$scratch/build" >&2
        failed=1
        return 0
    fi
    for model in "$@"; do
        if RUST_BACKTRACE=0 timeout 300 "$binary" --nocapture --test-threads 1 "models::$model" \
            >"$scratch/report" 2>&1; then
            continue
        fi
        row=$(sed -nE 's/.*loom: ([a-z0-9_]+): FAILED in interleaving ([0-9]+).*/`\1` | \2/p' "$scratch/report" | head -1)
        echo "| \`$name\` | $description | ${row:-\`$model\` | does not end} |"
        return 0
    done
    echo "| \`$name\` | $description | **none** | |"
    echo "teeth: no model fails for $name" >&2
    failed=1
}

# weaken NAME DESCRIPTION MODELS… <<edits: each a line "file :: perl". Models are parts of the paths of tests.
weaken() {
    name=$1
    local file perl line
    if ! selected "$name" || [ "$mode" = list ]; then
        if [ "$mode" = list ]; then echo "$name"; fi
        cat >/dev/null
        return 0
    fi
    rm -rf "$copy/src"
    cp -r "$scratch/pristine" "$copy/src"
    gone=0
    while IFS= read -r line; do
        edit "${line%% :: *}" "${line#* :: }"
    done
    if [ "$gone" -ne 0 ]; then
        failed=1
    elif [ "$mode" = run ]; then
        bite "${@:2}"
    fi
}

# blunt NAME DESCRIPTION REASON <<edits: no model can fail, for the reason given. The site has to be there all the same.
blunt() {
    local description=$2 reason=$3
    if [ "$mode" != run ]; then
        weaken "$1"
        return 0
    fi
    mode=sites
    weaken "$1"
    mode=run
    if selected "$1"; then echo "| \`$1\` | $description | none: $reason | |"; fi
}

if [ "$mode" = run ]; then
    echo "| weakening | site | model that failed | in interleaving |"
    echo "|---|---|---|---|"
fi

# The log.

weaken slot-store-relaxed 'O2: `Segment::fill`, Release → Relaxed' two_publishers <<'E'
log/segment.rs :: s/(slot\.0\.store\(frame\.into_raw\(\)\.as_ptr\(\), Ordering::)Release/$1Relaxed/
E
weaken slot-load-relaxed 'O2: `Segment::get`, Acquire → Relaxed' two_publishers <<'E'
log/segment.rs :: s/(self\.slots\.get\(index\)\?\.0\.load\(Ordering::)Acquire/$1Relaxed/
E
weaken next-store-relaxed 'O4: `decide_next`, Release → Relaxed' two_publishers <<'E'
log/segment.rs :: s/(next\.into_raw\(\),\s*Ordering::)Release/$1Relaxed/
E
weaken next-loser-relaxed 'O4: `decide_next` on failure, Acquire → Relaxed' two_publishers <<'E'
log/segment.rs :: s/(next\.into_raw\(\),\s*Ordering::Release,\s*Ordering::)Acquire/$1Relaxed/
E
weaken next-load-relaxed 'O4: `Segment::next`, Acquire → Relaxed' two_publishers <<'E'
log/segment.rs :: s/(self\.next\.load\(Ordering::)Acquire/$1Relaxed/
E
weaken tail-advance-relaxed 'O5: `advance_tail`, Release → Relaxed' two_publishers release_vs_append <<'E'
log/mod.rs :: s/(next\.into_raw\(\),\s*Ordering::)Release/$1Relaxed/
E
weaken tail-begin-relaxed 'O5: `begin_chain`, Release → Relaxed' two_publishers <<'E'
log/mod.rs :: s/(compare_exchange\(vacant, fresh, Ordering::)Release/$1Relaxed/
E
weaken tail-load-relaxed 'O5: `Log::tail`, Acquire → Relaxed' two_publishers <<'E'
log/mod.rs :: s/(self\.tail\.load\(Ordering::)Acquire/$1Relaxed/
E
weaken oldest-store-relaxed 'O6: `evict_one`, Release → Relaxed' evict_vs_reader release_vs_append evict_vs_evict <<'E'
log/mod.rs :: s/(self\.oldest\.store\(oldest\.next\.into_raw\(\), Ordering::)Release/$1Relaxed/
E
blunt oldest-link-relaxed 'O6: `link_oldest`, Release → Relaxed' \
    'a release fence (O8) stands before both calls' <<'E'
log/mod.rs :: s/(Link::Vacant\(base\)\.into_raw\(\),\s*segment,\s*Ordering::)Release/$1Relaxed/
E
weaken oldest-load-relaxed 'O6: `Log::oldest`, Acquire → Relaxed' release_vs_append evict_vs_reader byte_counters <<'E'
log/mod.rs :: s/(self\.oldest\.load\(Ordering::)Acquire/$1Relaxed/
E
blunt offset-store-relaxed 'O7: `evict_one`, Release → Relaxed' \
    'from the second eviction of a run on, the fence of the retirement before is a release fence; after the first, what a reader knows as the tail is at most one segment behind' <<'E'
log/mod.rs :: s/(self\.oldest_offset\.store\(oldest\.first, Ordering::)Release/$1Relaxed/
E
weaken offset-load-relaxed 'O7: `Log::oldest_offset`, Acquire → Relaxed' evict_vs_reader release_vs_append <<'E'
log/mod.rs :: s/(self\.oldest_offset\.load\(Ordering::)Acquire/$1Relaxed/
E
weaken control-mark-relaxed 'O11: `Segment::fill`, Release → Relaxed' control_vs_eviction <<'E'
log/segment.rs :: s/(fetch_or\(CONTROL, Ordering::)Release/$1Relaxed/
E
weaken control-evict-relaxed 'O11: `Segment::evict_bytes`, Acquire → Relaxed' control_vs_eviction <<'E'
log/segment.rs :: s/(fetch_or\(EVICTED, Ordering::)Acquire/$1Relaxed/
E
weaken control-no-mark 'a segment has no mark of its control frames' control_vs_eviction <<'E'
log/segment.rs :: s/self\.bytes\.fetch_or\(CONTROL, Ordering::Release\);//
E
weaken control-kept-last 'K1: control frames are kept after `oldest_offset` is raised' control_vs_eviction <<'E'
log/mod.rs :: s/(        if has_controls \{.*?\n        \}\n)(.*?self\.oldest_offset\.store\(oldest\.first, Ordering::Release\);\n)/$2$1/s
E
weaken control-not-late 'K3: a control frame that is filled too late is not kept' control_vs_eviction <<'E'
log/mod.rs :: s/self\.controls\.keep_late\(offset, &frame, now\);//
E
weaken begin-chain-no-fence 'O8: no fence in `begin_chain`' release_vs_append <<'E'
log/mod.rs :: s/fence\(Ordering::SeqCst\);(\s*self\.link_oldest)/$1/
E
weaken evict-no-fence 'O8: no fence in `evict_one`' release_vs_append <<'E'
log/mod.rs :: s/fence\(Ordering::SeqCst\);(\s*if let Link::Segment\(mut first\) = self\.tail)/$1/
E
weaken nobody-links-oldest 'L5: `begin_chain` does not link `oldest`' release_vs_append <<'E'
log/mod.rs :: s/self\.link_oldest\(base, fresh\);//
E
weaken evictor-does-not-link 'L5: `evict_one` does not link `oldest`' release_vs_append <<'E'
log/mod.rs :: s/self\.link_oldest\(base, first\.as_ptr\(\)\);/let _ = first;/
E
weaken flag-take-no-acquire 'O9: the flag is taken without Acquire' evict_vs_evict byte_counters <<'E'
log/mod.rs :: s/(self\.evicting\.swap\(true, Ordering::)AcqRel/$1Release/
E
weaken flag-take-no-release 'O9: the flag is found taken without Release' evict_vs_evict <<'E'
log/mod.rs :: s/(self\.evicting\.swap\(true, Ordering::)AcqRel/$1Acquire/
E
weaken flag-return-no-acquire 'O9: the flag is given back without Acquire' evict_vs_evict <<'E'
log/mod.rs :: s/(self\.evicting\.swap\(false, Ordering::)AcqRel/$1Release/
E
blunt flag-return-no-release 'O9: the flag is given back without Release' \
    'the fence of the last retirement is a release fence' <<'E'
log/mod.rs :: s/(self\.evicting\.swap\(false, Ordering::)AcqRel/$1Acquire/
E
weaken no-second-look 'the evictor does not look again after it gave the flag back' evict_vs_evict <<'E'
log/mod.rs :: s/while (evictable\(\)\.is_some\(\) && self\.begin_evicting\(\))/if $1/
E
weaken offset-after-retirement 'L1: `oldest_offset` raised after the retirement' evict_vs_reader <<'E'
log/mod.rs :: s/self\.oldest_offset\.store\(oldest\.first, Ordering::Release\);//
log/mod.rs :: s/(unsafe \{ epoch::retire\([^;]*;)/$1 self.oldest_offset.store(oldest.first, Ordering::Release);/
E
weaken oldest-after-retirement 'L1: `oldest` moved after the retirement' evict_vs_reader release_vs_append <<'E'
log/mod.rs :: s/self\.oldest\.store\(oldest\.next\.into_raw\(\), Ordering::Release\);//
log/mod.rs :: s/(unsafe \{ epoch::retire\([^;]*;)/$1 self.oldest.store(oldest.next.into_raw(), Ordering::Release);/
E
weaken tail-not-moved-on 'L1: `tail` still leads to the retired segment' evict_vs_reader evict_vs_evict byte_counters release_vs_append <<'E'
log/mod.rs :: s/self\.advance_tail\(oldest\.segment, oldest\.next\);//
E
weaken address-without-look 'C1: a reader follows its address without a look under its pin' evict_vs_reader <<'E'
log/cursor.rs :: s/\(self\.offset - behind >= log\.oldest_offset\(\)\)\.then/(self.offset >= behind).then/
E
weaken address-one-late 'C1: a reader behind looks one offset too late' evict_vs_reader <<'E'
log/cursor.rs :: s/self\.offset - behind >= log\.oldest_offset/self.offset >= behind \&\& self.offset >= log.oldest_offset/
E
blunt prev-without-look 'L4: `prev` followed without a look' \
    'the offset that is searched was raised to an `oldest_offset` seen under the same pin; the look is a short cut' <<'E'
log/cursor.rs :: s/if segment\.first\(\) <= self\.log\.oldest_offset\(\) \{\s*return None;\s*\}//
E
blunt evicted-hole-waits 'a reader waits for an evicted hole' \
    'whoever evicts wakes after it, and the next look starts from `oldest_offset`; the look saves one round' <<'E'
log/cursor.rs :: s/if self\.cursor\.offset < self\.log\.oldest_offset\(\) \{/if false {/
E
weaken hole-stepped-over 'a reader steps over a hole' hole <<'E'
log/cursor.rs :: s/if index < segment\.limit\(\) && self/if segment.get(index + 1).is_some() { self.cursor.stand(self.cursor.offset + 1, segment); return self.find(skip); }\n if index < segment.limit() && self/
log/cursor.rs :: s/if index < segment\.limit\(\) \{/if segment.get(index + 1).is_some() { self.cursor.stand(self.cursor.offset + 1, segment); continue; }\n if index < segment.limit() {/
E
weaken late-fill-counted 'bytes of an evicted segment are counted' byte_counters <<'E'
log/segment.rs :: s/if before & EVICTED == 0 \{\n            return Some\(\(before & !CONTROL\) \+ bytes\);/if true {\n            return Some((before & !(EVICTED | CONTROL)) + bytes);/
E
weaken evicted-by-store 'EVICTED set by a load and a store' byte_counters <<'E'
log/segment.rs :: s/self\.bytes\.fetch_or\(EVICTED, Ordering::Acquire\)/{ let b = self.bytes.load(Ordering::Acquire); self.bytes.store(b | EVICTED, Ordering::Relaxed); b }/
E
weaken end-by-capacity 'a subscriber begins at the end of the tail, not at what is reserved' subscribe_vs_publish <<'E'
log/cursor.rs :: s/segment\.first\(\) \+ segment\.reserved\(\) as u64, segment/segment.first() + segment.slots() as u64, segment/
E
weaken close-without-seal 'close does not seal' close_vs_publish <<'E'
log/mod.rs :: s/tail\.seal\(\);(\s*match tail\.decide_next\(Link::Closed)/$1/
E
blunt close-end-before-seal 'close reads the end before it seals' \
    'nobody reads the offset of a closed link that follows a segment' <<'E'
log/mod.rs :: s/tail\.seal\(\);(\s*match tail\.decide_next\(Link::Closed\()tail\.end\(\)/let end = tail.first() + tail.reserved() as u64; tail.seal();$1end/
E
weaken append-after-empty-seal 'S5: an append goes on behind an empty sealed segment' close_vs_publish::close_vs_evict <<'E'
log/mod.rs :: s/Link::Undecided if tail\.limit\(\) == 0 =>/Link::Undecided if false =>/
E
blunt reserve-relaxed 'O1: `reserve`, Release → Relaxed' \
    'what it publishes is the time of the append, and under loom the clock stands' <<'E'
log/segment.rs :: s/(self\.reserved\.fetch_add\(1, Ordering::)Release/$1Relaxed/
E
weaken release-cuts-unlinked 'L5: release cuts a chain that `oldest` does not lead to' release_vs_append::release_vs_unlinked <<'E'
log/mod.rs :: s/\(Link::Segment\(_\), Link::Segment\(tail_ptr\)\) = \(self\.oldest\(\), self\.tail\(\)\)/(_, Link::Segment(tail_ptr)) = (self.oldest(), self.tail())/
E
weaken reader-does-not-help 'a reader past a cut does not move `tail` on' release_vs_append::release_vs_reader <<'E'
log/cursor.rs :: s/self\.log\.advance_tail\(segment\.thin\(\), vacant\);/let _ = vacant;/
E
weaken release-seals-empty 'S5: release seals an empty tail' release_vs_append <<'E'
log/mod.rs :: s/if reserved > 0 && tail/if tail/
E
weaken release-evicts-empty 'S5: release evicts the empty segment of a closed log' release_vs_append::an_empty_last_segment_stays <<'E'
log/mod.rs :: s/if closed && end > oldest\.first\(\) =>/if closed =>/
E

# Waiters: park, publish, wake.

# The small ones first.
list=(park_vs_publish_list::beside park_vs_publish_list::two park_vs_publish_list::join park_vs_publish_list::park)

weaken arm-no-fence 'P5: no fence in `arm`' park_vs_publish::park_vs_publish <<'E'
subscribers/mod.rs :: s/(P5: pairs with the fence in `wake`\.\s*)fence\(Ordering::SeqCst\);/$1/
E
weaken wake-no-fence 'P5: no fence in `needs_wake`' park_vs_publish::park_vs_publish <<'E'
subscribers/mod.rs :: s/(P5: pairs with the fence in `arm`\.\s*)fence\(Ordering::SeqCst\);/$1/
E
weaken wake-no-fence-hole 'P5: no fence in `needs_wake`, and who stands before a hole waits for the wake' hole::hole_below <<'E'
subscribers/mod.rs :: s/(P5: pairs with the fence in `arm`\.\s*)fence\(Ordering::SeqCst\);/$1/
E
weaken set-top-down 'top bit before leaf bit' park_vs_publish::park_vs_publish <<'E'
subscribers/mod.rs :: s/if !self\.first\.arm\(0, waker\) \{\s*return;\s*\}/self.top.fetch_or(FIRST_BIT, Ordering::AcqRel); let _ = self.first.arm(0, waker); fence(Ordering::SeqCst); return;/
E
weaken set-top-down-list 'top bit, then summary bit, then leaf bit' "${list[@]}" <<'E'
subscribers/mod.rs :: s/if !chunk\.arm\(waiter, waker\) \{\s*return;\s*\}\s*group\.arm_summary\(usize::from\(seat\.number\)\);/self.top.fetch_or(top_bit(group.index()), Ordering::AcqRel); group.arm_summary(usize::from(seat.number)); let _ = chunk.arm(waiter, waker); fence(Ordering::SeqCst); return;/
subscribers/mod.rs :: s/(return;\s*)top_bit\(group\.index\(\)\)/$1/
E
weaken set-summary-before-leaf 'summary bit before leaf bit' "${list[@]}" <<'E'
subscribers/mod.rs :: s/(if !chunk\.arm\(waiter, waker\) \{\s*return;\s*\})\s*(group\.arm_summary\(usize::from\(seat\.number\)\);)/$2 $1/
E
weaken set-top-before-summary 'top bit before summary bit' "${list[@]}" <<'E'
subscribers/mod.rs :: s/(group\.arm_summary\(usize::from\(seat\.number\)\);)\s*top_bit\(group\.index\(\)\)/self.top.fetch_or(top_bit(group.index()), Ordering::AcqRel); $1 fence(Ordering::SeqCst); return;/
E
weaken clear-top-last 'the top word cleared after the scan' park_vs_publish::park_vs_publish "${list[@]}" <<'E'
subscribers/mod.rs :: s/let mut top = self\.top\.swap\(0, Ordering::AcqRel\);/let mut top = self.top.load(Ordering::Acquire);/
subscribers/mod.rs :: s/(if top == 0 \{\s*)(wake\.finish\(\);\s*return;)/$1self.top.swap(0, Ordering::AcqRel); $2/
subscribers/mod.rs :: s/(\s*)(wake\.finish\(\);\s*\}\s*\/\/\/ Gives a heartbeat)/ self.top.swap(0, Ordering::AcqRel);$1$2/
E
weaken clear-summary-last 'the summary cleared after its leaves' "${list[@]}" <<'E'
subscribers/group.rs :: s/let mut armed = self\.summary\.swap\(0, Ordering::AcqRel\);/let mut armed = self.summary.load(Ordering::Acquire);/
subscribers/group.rs :: s/(f\(&self\.chunks\[armed\.trailing_zeros\(\) as usize\]\);\s*armed &= armed - 1;\s*\})/$1 self.summary.swap(0, Ordering::AcqRel);/
E
weaken summary-on-first-leaf 'summary set only when the leaf was empty' "${list[@]}" <<'E'
subscribers/chunk.rs :: s/self\.armed\.fetch_or\(1 << index, Ordering::AcqRel\);/let first = self.armed.fetch_or(1 << index, Ordering::AcqRel) == 0;/
subscribers/chunk.rs :: s/(drop\(old\);\s*)true/$1first/
subscribers/mod.rs :: s/if !chunk\.arm\(waiter, waker\) \{\s*return;\s*\}\s*(group\.arm_summary\(usize::from\(seat\.number\)\);)/if chunk.arm(waiter, waker) { $1 }/
E
weaken top-on-first-summary 'top set only when the summary was empty' "${list[@]}" <<'E'
subscribers/group.rs :: s/pub\(crate\) fn arm_summary\(&self, number: usize\) \{/pub(crate) fn arm_summary(&self, number: usize) -> bool {/
subscribers/group.rs :: s/if self\.summary\.load\(Ordering::\w+\) & bit == 0 \{\s*self\.summary\.fetch_or\(bit, Ordering::AcqRel\);\s*\}/self.summary.fetch_or(bit, Ordering::AcqRel) == 0/
subscribers/mod.rs :: s/group\.arm_summary\(usize::from\(seat\.number\)\);\s*top_bit/if !group.arm_summary(usize::from(seat.number)) { fence(Ordering::SeqCst); return; } top_bit/
E
weaken top-on-clear-summary-bit 'top set only when the summary bit was clear' "${list[@]}" <<'E'
subscribers/group.rs :: s/pub\(crate\) fn arm_summary\(&self, number: usize\) \{/pub(crate) fn arm_summary(&self, number: usize) -> bool {/
subscribers/group.rs :: s/if self\.summary\.load\(Ordering::\w+\) & bit == 0 \{\s*self\.summary\.fetch_or\(bit, Ordering::AcqRel\);\s*\}/self.summary.fetch_or(bit, Ordering::AcqRel) & bit == 0/
subscribers/mod.rs :: s/group\.arm_summary\(usize::from\(seat\.number\)\);\s*top_bit/if !group.arm_summary(usize::from(seat.number)) { fence(Ordering::SeqCst); return; } top_bit/
E
weaken leaf-arm-no-acquire 'P2: leaf armed without Acquire' park_vs_publish:: "${list[@]}" <<'E'
subscribers/chunk.rs :: s/(self\.armed\.fetch_or\(1 << index, Ordering::)AcqRel/$1Release/
E
weaken leaf-arm-no-release 'P2: leaf armed without Release' waiter_cell <<'E'
subscribers/chunk.rs :: s/(self\.armed\.fetch_or\(1 << index, Ordering::)AcqRel/$1Acquire/
E
weaken leaf-take-no-release 'P3: leaf taken without Release' park_vs_publish:: "${list[@]}" <<'E'
subscribers/chunk.rs :: s/(self\.armed\.swap\(0, Ordering::)AcqRel/$1Acquire/
E
weaken leaf-take-no-acquire 'P3: leaf taken without Acquire' waiter_cell <<'E'
subscribers/chunk.rs :: s/(self\.armed\.swap\(0, Ordering::)AcqRel/$1Release/
E
blunt disarm-relaxed 'P2: leaf disarmed Relaxed' \
    'nobody else has been in the cell since the owner lent it, and an RMW goes on with the release of the taker before it' <<'E'
subscribers/chunk.rs :: s/(self\.armed\.fetch_and\(!bit, Ordering::)AcqRel/$1Relaxed/
E
weaken summary-set-relaxed 'P4: summary set Relaxed' "${list[@]}" <<'E'
subscribers/group.rs :: s/(self\.summary\.fetch_or\(bit, Ordering::)AcqRel/$1Relaxed/
E
weaken summary-set-no-acquire 'P4: summary set without Acquire' "${list[@]}" <<'E'
subscribers/group.rs :: s/(self\.summary\.fetch_or\(bit, Ordering::)AcqRel/$1Release/
E
weaken summary-test-relaxed 'P4: summary tested Relaxed' "${list[@]}" <<'E'
subscribers/group.rs :: s/(self\.summary\.load\(Ordering::)Acquire/$1Relaxed/
E
weaken summary-look-first 'P4: a look at the summary spares its RMW' "${list[@]}" <<'E'
subscribers/group.rs :: s/(let mut armed = self\.summary\.swap)/if self.summary.load(Ordering::Relaxed) == 0 { return; } $1/
E
weaken list-no-fence 'P9: no fence between top and list' park_vs_publish_list::join <<'E'
subscribers/mod.rs :: s/(in the list that we load\.\s*)fence\(Ordering::SeqCst\);/$1/
E
blunt summary-take-relaxed 'P4: summary taken Relaxed' \
    'the fence P9 stands before it, and the bits below are found by RMWs' <<'E'
subscribers/group.rs :: s/(self\.summary\.swap\(0, Ordering::)AcqRel/$1Relaxed/
E
blunt top-set-relaxed 'P5: top set Relaxed' \
    'what it hands over are bits, which loom finds by RMWs in the order of the run' <<'E'
subscribers/mod.rs :: s/(self\.top\.fetch_or\(bit, Ordering::)AcqRel/$1Relaxed/
E
blunt top-take-relaxed 'P5: top taken Relaxed' \
    'the fence P9 follows, or the RMW of the first bit, which goes on with the release of its parker' <<'E'
subscribers/mod.rs :: s/(self\.top\.swap\(0, Ordering::)AcqRel/$1Relaxed/
E
weaken summary-and-top-relaxed 'P4, P5: summary and top Relaxed' "${list[@]}" <<'E'
subscribers/group.rs :: s/(self\.summary\.(fetch_or\(bit|swap\(0), Ordering::)AcqRel/$1Relaxed/g
subscribers/mod.rs :: s/(self\.top\.(fetch_or\(bit|swap\(0), Ordering::)AcqRel/$1Relaxed/g
E
weaken publish-without-wake 'no wake after an append' park_vs_publish::park_vs_publish_hub <<'E'
topic/mod.rs :: s/if wake \{\s*topic\.subscribers\.wake_armed\(\);\s*\}//
E
weaken close-without-wake 'no wake after a close' close_vs_park <<'E'
topic/mod.rs :: s/panics\.run\(\|\| self\.subscribers\.wake\(\)\);//
E

# Waiters: the cell of one.

weaken cell-look-relaxed 'W-a: Acquire → Relaxed' waiter_cell leave_vs_claim <<'E'
subscribers/waiter.rs :: s/(self\.lent\.load\(Ordering::)Acquire/$1Relaxed/
E
weaken cell-return-relaxed 'W-b: Release → Relaxed' waiter_cell <<'E'
subscribers/waiter.rs :: s/(self\.lent\.store\(false, Ordering::)Release/$1Relaxed/
E
weaken cell-return-early 'a taker says that it is out before it is' waiter_cell <<'E'
subscribers/waiter.rs :: s/let waker = self\.replace\(None\);(\s*\/\/ Release: out of the cell\. W-b\s*)self\.lent\.store\(false, Ordering::Release\);/$1self.lent.store(false, Ordering::Release); let waker = self.replace(None);/
E
weaken cell-not-lent 'the owner does not say that the cell is lent' waiter_cell <<'E'
subscribers/waiter.rs :: s/self\.lent\.store\(true, Ordering::Relaxed\);//
E
weaken cell-parks-beside-taker 'W1: the owner parks where a taker is' waiter_cell <<'E'
subscribers/chunk.rs :: s/if !self\.reclaim\(index\) \{.*?return false;\s*\}/self.reclaim(index);/s
E
weaken beat-take-no-acquire 'P3: a heartbeat takes leaves without Acquire' waiter_cell::waiter_cell_beat <<'E'
subscribers/chunk.rs :: s/(self\.armed\.fetch_and\(!wanted, Ordering::)AcqRel/$1Release/
E
weaken cell-no-self-wake 'W2: the owner that meets a taker does not wake itself' waiter_cell <<'E'
subscribers/chunk.rs :: s/waker\.wake_by_ref\(\);//
E

# Waiters: join, leave.

blunt claim-relaxed 'P6: `occupied` claimed Relaxed' \
    'what a leave writes are RMWs and stores that loom keeps in the order of the run; an RMW goes on with the release of the leave' <<'E'
subscribers/chunk.rs :: s/(occupied \| bit,\s*Ordering::)AcqRel/$1Relaxed/
E
weaken leave-relaxed 'P6: `occupied` cleared Relaxed' leave_vs_claim <<'E'
subscribers/chunk.rs :: s/(self\.occupied\.fetch_and\(!bit, Ordering::)AcqRel/$1Relaxed/
E
weaken leave-before-clean 'P6: `occupied` cleared before the waiter is clean' leave_vs_claim <<'E'
subscribers/chunk.rs :: s/let waker = self\.reclaim/self.occupied.fetch_and(!bit, Ordering::AcqRel); let waker = self.reclaim/
E
weaken leave-clears-leaf 'a leave clears the leaf of its neighbours' leave_vs_publish <<'E'
subscribers/chunk.rs :: s/self\.armed\.fetch_and\(!bit, Ordering::AcqRel\) & bit/self.armed.swap(0, Ordering::AcqRel) & bit/
E
weaken leave-keeps-waker 'a leave leaves its waker behind' leave_vs_publish <<'E'
subscribers/chunk.rs :: s/let waker = self\.reclaim\(index\)\.then\(\|\| waiter\.empty\(\)\)\.flatten\(\);/self.reclaim(index); let waker = None;/
E
weaken claim-no-fence 'P7: no fence in `claim`' passed_vs_subscribe <<'E'
subscribers/mod.rs :: s/(sees all that the evictor.s readers read\.\s*)fence\(Ordering::SeqCst\);/$1/
E
weaken passed-no-fence 'P7: no fence in `least_passed`' passed_vs_subscribe <<'E'
subscribers/mod.rs :: s/(P7: pairs with the fence in `claim`\.\s*)fence\(Ordering::SeqCst\);/$1/
E
weaken joiner-holds-nothing 'a joining waiter holds nothing back' passed_vs_subscribe <<'E'
subscribers/waiter.rs :: s/passed: AtomicU64::new\(0\)/passed: AtomicU64::new(u64::MAX)/
E
blunt passed-store-relaxed 'W-d: `passed`, Release → Relaxed' \
    'the pin of whoever reads holds what it reads, whatever it says it has passed' <<'E'
subscribers/waiter.rs :: s/(self\.passed\.store\(offset, Ordering::)Release/$1Relaxed/
E
blunt passed-load-relaxed 'W-d: `passed`, Acquire → Relaxed' \
    'the pin of whoever reads holds what it reads, whatever it says it has passed' <<'E'
subscribers/waiter.rs :: s/(self\.passed\.load\(Ordering::)Acquire/$1Relaxed/
E
blunt occupied-look-relaxed 'P7: `Chunk::least_passed`, Acquire → Relaxed' \
    'a stale `passed` is that of an owner before, and the next one begins there or later' <<'E'
subscribers/chunk.rs :: s/(self\.occupied\.load\(Ordering::)Acquire/$1Relaxed/
E
blunt ticket-no-acquire 'P8: a ticket taken without Acquire (the claim may spin)' \
    'whoever finds no place by the hints has cleared one, and that RMW takes over what the leave before it did' <<'E'
subscribers/group.rs :: s/(\.fetch_update\(Ordering::)Acquire/$1Relaxed/
E
weaken hint-cleared-relaxed 'P8: the hint cleared without Acquire (the claim may spin)' retire_vs_claim <<'E'
subscribers/group.rs :: s/(self\.vacant\.fetch_and\(!\(1 << chunk\), Ordering::)Acquire/$1Relaxed/
E
weaken hint-set-relaxed 'P8: the hint set without Release (the claim may spin)' retire_vs_claim <<'E'
subscribers/group.rs :: s/(self\.vacant\.fetch_or\(1 << chunk, Ordering::)Release/$1Relaxed/
E
blunt ticket-return-relaxed 'P8: `live` counted down Relaxed' \
    'a group goes with the last `Arc` to it, which orders it' <<'E'
subscribers/group.rs :: s/(self\.live\.fetch_sub\(1, Ordering::)Release/$1Relaxed/
E
blunt retire-relaxed 'P8: `live` retired Relaxed' \
    'a group goes with the last `Arc` to it, which orders it' <<'E'
subscribers/group.rs :: s/(compare_exchange\(0, RETIRED, Ordering::)Acquire/$1Relaxed/
E
weaken retire-check-then-store 'G2: check, then remove' retire_vs_claim <<'E'
subscribers/group.rs :: s/self\s*\.live\s*\.compare_exchange\(0, RETIRED, Ordering::Acquire, Ordering::Relaxed\)\s*\.is_ok\(\)/self.live.load(Ordering::Acquire) == 0 \&\& self.live.swap(RETIRED, Ordering::AcqRel) < RETIRED/
E
weaken retire-on-last 'G2: whoever counts down to nobody retires' retire_vs_claim <<'E'
subscribers/group.rs :: s/(fetch_sub\(1, Ordering::Release\) == 1) && self\.retire\(\)/$1/
E

# Topics and the registry.

weaken remove-without-look 'R2: removed without a look at the users under the lock' last_leave_vs_subscribe <<'E'
registry.rs :: s/same\(found\) && found\.is_dead\(\)/same(found)/
E
weaken counted-outside 'R1: counted in outside the lock' last_leave_vs_subscribe <<'E'
registry.rs :: s/topic\.try_enter\(user\)\?;//
registry.rs :: s/return entered;/let topic = entered?; topic.enter(user); return Ok(topic);/
registry.rs :: s/drop\(unused\);/drop(unused); let topic = topic?; topic.enter(user); let topic = Ok(topic);/
E
blunt counted-after-place 'T3: counted in after the place was taken' \
    'what is skipped between place and count has no offset and is owed to nobody; that the count comes under the lock is `counted-outside`' <<'E'
registry.rs :: s/topic\.try_enter\(user\)\?;/if user == User::Handle { topic.enter(user); }/
subscription/mod.rs :: s/(this\.note_passed\(\);\s*drop\(guard\);)/$1 this.topic.enter(User::Subscription);/
E
blunt exit-relaxed 'U2: `exit`, AcqRel → Relaxed' \
    'the fence U4 follows, and whoever appended has passed the fence of `needs_wake`' <<'E'
topic/mod.rs :: s/(self\.users\.fetch_sub\(user\.one\(\), Ordering::)AcqRel/$1Relaxed/
E
blunt exit-no-acquire 'U2: `exit`, AcqRel → Release' \
    'the fence U4 follows' <<'E'
topic/mod.rs :: s/(self\.users\.fetch_sub\(user\.one\(\), Ordering::)AcqRel/$1Release/
E
weaken exit-no-fence 'U4: no fence in `exit`' visit_vs_leave <<'E'
topic/mod.rs :: s/(with those who wait for that\.\s*)fence\(Ordering::SeqCst\);/$1/
E
blunt offer-no-fence 'U4: no fence in `offer_to_go`' \
    'both callers have passed a fence already: U3 in `visit`, that of `wake` in `close`' <<'E'
topic/mod.rs :: s/(\/\/ U4\s*)fence\(Ordering::SeqCst\);/$1/
E
weaken tidy-not-capped 'a visit gives back what came after its first look' visit_vs_leave::visit_vs_subscribe <<'E'
topic/visit.rs :: s/let least = least\.min\(end\);/let _ = end;/
E
blunt passed-not-capped 'P7: what is evicted as passed is not capped by an end read before' \
    'whoever calls `consumed` has itself passed no more than that end' <<'E'
topic/mod.rs :: s/passed\.min\(end\)/passed.min(u64::MAX.max(end))/
E
blunt hub-no-fence 'H1: no fence in `Hub::enter`' \
    'the lock of the shard orders both sides' <<'E'
hub.rs :: s/(this sees that the hub is closed\.\s*)fence\(Ordering::SeqCst\);/$1/
E
weaken hub-no-look 'H1: no look at the hub after the topic was made' close_vs_publish <<'E'
hub.rs :: s/if self\.is_closed\(\) \{\s*topic\.close\(\);\s*\}//
E

# Interest.

weaken interest-comes-no-fence 'J-a: no fence in `poll_subscribed`' interest::interest_first_comes <<'E'
interest.rs :: s/(fn poll_subscribed.*?\/\/ J-a\s*)fence\(Ordering::SeqCst\);/$1/s
E
weaken interest-joined-no-fence 'J-b: no fence in `Subscription::start`' interest::interest_first_comes <<'E'
subscription/mod.rs :: s/(takes the subscription down with it\.\s*)fence\(Ordering::SeqCst\);/$1/
E
blunt interest-counted-is-there 'J2: ready for who is counted and has no place' \
    'loom does not get between the count and the place: the append looks at the tail before it changes it (Loads, above)' <<'E'
interest.rs :: s/if core\.subscribers\.has_reader\(\)/if self.topic.subscribers() > 0/
E
weaken interest-leaves-no-fence 'J-a: no fence in `poll_deserted`' interest::interest_last_leaves <<'E'
interest.rs :: s/(fn poll_deserted.*?\/\/ J-a\s*)fence\(Ordering::SeqCst\);/$1/s
E
weaken exit-no-fence-watched 'J-b: no fence in `exit`' interest::interest_last_leaves <<'E'
topic/mod.rs :: s/(with those who wait for that\.\s*)fence\(Ordering::SeqCst\);/$1/
E
weaken interest-look-first 'J1: the subscribers counted before the waker is in' interest::interest_first_comes <<'E'
interest.rs :: s/self\.watcher\.park\(Some\(cx\.waker\(\)\.clone\(\)\)\);(\s*\/\/ J-a\s*fence\(Ordering::SeqCst\);\s*if core\.subscribers\.has_reader\(\) \{.*?Closed\)\)\s*\} else \{)/$1 self.watcher.park(Some(cx.waker().clone()));/s
E
weaken interest-told-before-counted 'J1: watchers are told before the subscription is counted out' interest::interest_last_leaves <<'E'
topic/mod.rs :: s/(let before = self\.users\.fetch_sub)/self.shared.watchers.tell(self.address(), false); $1/
topic/mod.rs :: s/FirstPanic::default\(\)\.run\(tell\);/drop(tell);/
E

# A topic that is closed alone.

weaken topic-close-no-help 'T4: who meets a close on its way does not help it, and looks for ever' close_vs_publish::topic_close_vs_publish <<'E'
hub.rs :: s/topic\.log\.close\(&guard\);//
E
weaken topic-close-no-look 'T4: a closed topic at the key of an open hub is an error' close_vs_publish::topic_close_vs_publish <<'E'
hub.rs :: s/Err\(PublishError::Closed\) if !self\.is_closed\(\) =>/Err(PublishError::Closed) if false =>/
E

# Ends from outside, names, routes, snapshots.

weaken end-no-rmw 'E2: `take_one` without its RMW when the bit is clear' end_vs_park <<'E'
subscribers/chunk.rs :: s/(let armed = self\.armed\.fetch_and)/if self.armed.load(Ordering::Acquire) \& bit == 0 { return None; } $1/
E
weaken end-no-release 'P3: `take_one`, AcqRel → Acquire' end_vs_park <<'E'
subscribers/chunk.rs :: s/(let armed = self\.armed\.fetch_and\(!bit, Ordering::)AcqRel/$1Acquire/
E
weaken end-no-acquire 'P3: `take_one`, AcqRel → Release' end_vs_park <<'E'
subscribers/chunk.rs :: s/(let armed = self\.armed\.fetch_and\(!bit, Ordering::)AcqRel/$1Release/
E
weaken end-no-second-look 'no look at the reason after parking' end_vs_park <<'E'
subscription/mod.rs :: s/(fn look_at_more\(&mut self, guard: &Guard\) -> Option<Found> \{\s*)self\.see_ends\(guard\);/$1/
subscription/mod.rs :: s/(let mut found = self\.look\(&guard\);)/self.see_ends(&guard); $1/
E
weaken end-no-watcher 'R1: who waits for the clock is not reached' end_vs_park <<'E'
ending.rs :: s/panics\.run\(\|\| watcher\.wake\(\)\);//
E
weaken end-late-watcher 'R1: a reader looks at the reason before it parks at the watcher only' end_vs_park <<'E'
subscription/mod.rs :: s/(if matches!\(found, Found::Nothing\) \{\s*self\.park\(cx\);)(\s*found = self\.look\(&guard\);)/$1 if self.waits(cx) { return Poll::Pending; }$2/
E
weaken end-spot-first 'E2: the spot is looked up before the reason is set' end_vs_move <<'E'
ending.rs :: s/(pub fn end\(&self, reason: EndReason\) -> bool \{)(.*?)let spot = self\.0\.spot\(\)\.clone\(\);/$1 let spot = self.0.spot().clone();$2/s
E
blunt end-reason-relaxed 'E-a: the reason set Relaxed' \
    'the RMWs of `armed` order it (P2 and P3)' <<'E'
ending.rs :: s/(compare_exchange\(0, reason\.number\(\), Ordering::)AcqRel/$1Relaxed/
E
blunt end-reason-load-relaxed 'E-b: the reason read Relaxed' \
    'the reason is all that is read' <<'E'
ending.rs :: s/(self\.0\.reason\.load\(Ordering::)Acquire/$1Relaxed/
E
weaken stall-leave-blind 'V1: a drop that looks at its standing and then clears it' stall_vs_leave <<'E'
subscribers/waiter.rs :: s/self\.standing\.fetch_and\(EVICTED, Ordering::Relaxed\) & EVICTED != 0/{ let seen = self.standing.load(Ordering::Relaxed); self.standing.store(seen \& EVICTED, Ordering::Relaxed); seen \& EVICTED != 0 }/
E
weaken stall-evict-blind 'V1: the clock looks at a standing and then sets it' stall_vs_leave <<'E'
subscribers/waiter.rs :: s/self\.standing\s*\.compare_exchange\(seen, next, Ordering::Relaxed, Ordering::Relaxed\)\s*\.is_ok\(\)/{ self.standing.store(next, Ordering::Relaxed); seen != 0 }/
E
weaken stall-anybody 'V2: the clock gives up whoever is watched' stall_vs_leave <<'E'
subscribers/waiter.rs :: s/standing & \(WATCHED \| SUSPECT \| EVICTED\) == WATCHED \| SUSPECT/standing \& WATCHED != 0/
E
weaken vacate-at-once 'W4: the place of one who was given up is left while it may be at it' stall_vs_leave <<'E'
topic/visit.rs :: s/self\.0\.load\(Ordering::Acquire\)/self.0.load(Ordering::Acquire) || true/
E
weaken vacate-relaxed 'V5: the word that no pin is held is read Relaxed' stall_vs_leave <<'E'
topic/visit.rs :: s/self\.0\.load\(Ordering::Acquire\)/self.0.load(Ordering::Relaxed)/
E
weaken vacate-same-generation 'W4: the place that is left is of the same generation' stall_vs_leave <<'E'
subscribers/waiter.rs :: s/self\.generation\.store\(next, Ordering::Relaxed\);/let _ = next;/
E
weaken vacate-twice 'W4: an owner that finds itself given up leaves its place, too' stall_vs_leave <<'E'
subscribers/mod.rs :: s/true if self\.generation < u16::MAX => Standing::Lost/true if self.generation == u16::MAX => Standing::Lost/
E
blunt vacate-no-wake 'a waker that is in the place of one who was given up is dropped' \
    'who parks has taken its suspicion back; only a load older than the clock'"'"'s look before, by evict_after at least, could miss it' <<'E'
topic/visit.rs :: s/waker\.wake\(\);/drop(waker);/
E
weaken lost-not-counted 'G4: a group that an owner holds who was given up is retired' retire_vs_claim <<'E'
subscribers/group.rs :: s/let before = self\.live\.fetch_add\(LOST - 1, Ordering::Release\);/let before = self.live.fetch_sub(1, Ordering::Release).wrapping_sub(LOST);/
E
weaken lost-retires-early 'G4: an owner that lets go retires the group with somebody in it' retire_vs_claim <<'E'
subscribers/group.rs :: s/self\.live\.fetch_sub\(LOST, Ordering::Release\) == LOST && self\.retire\(\)/self.live.fetch_sub(LOST, Ordering::Release) >> 32 == 1 \&\& { self.live.store(RETIRED, Ordering::Relaxed); true }/
E
weaken lost-never-retires 'G4: whoever is the last to have to do with a group does not retire it' retire_vs_claim <<'E'
subscribers/group.rs :: s/before\.wrapping_add\(LOST - 1\) == 0 && self\.retire\(\)/false/
E
weaken drain-no-rmw 'D1: asks without an RMW of `armed` when nobody is parked' drain_vs_park <<'E'
subscribers/chunk.rs :: s/if asked != 0 \{/if asked \& self.armed.load(Ordering::Acquire) != 0 {/
E
weaken drain-no-second-look 'D1: no look at the standing after parking' drain_vs_park <<'E'
subscription/mod.rs :: s/Step::Pending => \{\s*if self\.leaves\(\) \{\s*Found::Ended\s*\} else \{\s*Found::Nothing\s*\}\s*\}/Step::Pending => Found::Nothing,/
subscription/mod.rs :: s/(let mut found = self\.look\(&guard\);)/$1 if matches!(found, Found::Nothing) \&\& self.leaves() { found = Found::Ended; }/
E
weaken entry-of-anybody 'B1: an entry is removed whosesoever it is' replace_vs_leave <<'E'
broadcaster.rs :: s/let own = \|entry: &Entry\| entry\.end\.is_same\(&self\.end\);/let own = |_: \&Entry| true;/
E
weaken route-no-lock 'O1 of `router`: no lock around the appends' router_order <<'E'
router.rs :: s/let locked = lock\.lock\(\)\.unwrap_or_else\(PoisonError::into_inner\);/let locked = lock;/
E
weaken route-lock-each 'O1 of `router`: the lock taken for each append alone' router_order <<'E'
router.rs :: s/let locked = lock\.lock\(\)\.unwrap_or_else\(PoisonError::into_inner\);/let locked = lock;/
router.rs :: s/(let bytes = frame\.as_ref\(\)\.map_or\(0, Frame::len\);)/let _locked = lock.lock(); $1/
E
weaken snapshot-first 'N2: the place is taken after the snapshot' snapshot_vs_publish <<'E'
subscription/opening.rs :: s/(let taken = asked\.map_err\(SnapshotError::Snapshot\)\?;)/$1 self.begin_again();/
E
blunt snapshot-from-reserved 'N1: the place is what is reserved' \
    'reserving is a release and the end is read with Acquire (O1), so the state before it is seen all the same; without these two loom does not get there (Loads, above)' <<'E'
position.rs :: s/(Start::Filled => \{).*?(\n            \})/$1$2/s
E
weaken snapshot-as-of-ignored 'the stream goes on from the place, not after what the snapshot includes' snapshot_vs_publish <<'E'
subscription/opening.rs :: s/position\.cursor\.jump\(id\.offset\(\) \+ 1\);//
E

# The reactor's inbox.

weaken inbox-tell-no-release 'X1: `rouse`, AcqRel → Acquire' inbox <<'E'
transport/reactor/inbox.rs :: s/(!self\.awake\.swap\(true, Ordering::)AcqRel/$1Acquire/
E
weaken inbox-sleep-no-acquire 'X1: `try_sleep`, AcqRel → Release' inbox <<'E'
transport/reactor/inbox.rs :: s/(self\.awake\.swap\(false, Ordering::)AcqRel/$1Release/
E
weaken inbox-sleep-late 'X1: `awake` cleared after the look at the queues' inbox <<'E'
transport/reactor/inbox.rs :: s/(        self\.awake\.swap\(false, Ordering::AcqRel\);\n)(        if self\.topics\.is_empty\(\) && self\.commands\.is_empty\(\) \{\n)/$2$1/
E
weaken inbox-dirty-no-release 'X2: `Signal::wake`, AcqRel → Acquire' inbox <<'E'
transport/reactor/inbox.rs :: s/(self\.dirty\.swap\(true, Ordering::)AcqRel/$1Acquire/
E
weaken inbox-dirty-no-acquire 'X2: `Signal::clear`, AcqRel → Release' inbox <<'E'
transport/reactor/inbox.rs :: s/(self\.dirty\.swap\(false, Ordering::)AcqRel/$1Release/
E
weaken inbox-no-rouse 'I1: a teller that finds the shard asleep does not rouse it' inbox <<'E'
transport/reactor/inbox.rs :: s/if !self\.awake\.swap\(true, Ordering::AcqRel\) \{/if self.awake.swap(true, Ordering::AcqRel) {/
E

exit "$failed"
