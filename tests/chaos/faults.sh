#!/usr/bin/env bash
# The teeth of the simulator: puts one fault at a time into a copy of the sources and expects a seed to find it.
#
#   tests/chaos/faults.sh              all of them, a few minutes on two cores
#   tests/chaos/faults.sh lag- wake-   those whose name begins with one of these words
#   tests/chaos/faults.sh --list       names only
#   tests/chaos/faults.sh --sites      changes each site, builds nothing: fails if a site is gone
#
# Prints the table of FAULTS.md. Fails if an edit no longer applies or does not compile, or a fault survives FAULTS_SEEDS
# seeds. An edit is a file, the lines that go (-) and those that come (+): they are found whatever their indentation, and once.
set -euo pipefail
cd "$(dirname "$0")/../.."

seeds=${FAULTS_SEEDS:-2000}
mode=run
words=()
for argument in "$@"; do
    case $argument in
        --list) mode=list ;;
        --sites) mode=sites ;;
        *) words+=("$argument") ;;
    esac
done

# A place that stays, so that what is not changed is not built again; and one of its own: to cargo the copy is the same
# package as the original, so in one place each would overwrite what the other has built.
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")/faults
copy=$target/copy
export CARGO_TARGET_DIR=$target CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0 RUST_BACKTRACE=0
unset FANFARE_SEED
scratch=$(mktemp -d)
trap 'rm -rf "$scratch" "$copy"' EXIT
rm -rf "$copy"
mkdir -p "$copy"
tar --exclude=./target --exclude=./.git -cf - . | tar -xf - -C "$copy"
# Newer than what was built with the last fault.
find "$copy/src" "$copy/tests" -type f -exec touch {} +
cp -r "$copy/src" "$scratch/pristine"

selected() {
    [ ${#words[@]} -eq 0 ] && return 0
    local word
    for word in "${words[@]}"; do
        [[ $1 == "$word"* ]] && return 0
    done
    return 1
}

# Applies the edits on its input to the copy.
edit() {
    # shellcheck disable=SC2016
    perl -e '
        use strict;
        my ($root, $name) = @ARGV;
        my ($file, @old, @new);
        my $bad = 0;
        sub apply {
            return unless @old;
            local $/;
            open my $in, "<", "$root/$file" or die "faults: $name: no $file\n";
            my $text = <$in>;
            close $in;
            my $pattern = join "\\s+", map { quotemeta } @old;
            my $count = () = $text =~ /$pattern/g;
            if ($count != 1) {
                print STDERR "faults: $name: $count sites in $file: @old\n";
                $bad = 1;
            }
            my $new = join "\n", @new;
            $text =~ s/$pattern/$new/;
            open my $out, ">", "$root/$file" or die "faults: $name: cannot write $file\n";
            print $out $text;
            close $out;
            @old = @new = ();
        }
        while (my $line = <STDIN>) {
            chomp $line;
            if ($line =~ /^- (.*)/) { apply() if @new; push @old, $1; }
            elsif ($line =~ /^\+ ?(.*)/) { push @new, $1; }
            else { apply(); $file = $line; }
        }
        apply();
        exit $bad;
    ' "$copy" "$name"
}

failed=0

# Builds the copy and runs the seeds, up to the first that fails.
bite() {
    local description=$1 test=$2 row world=chaos
    if [ "$test" = limits ]; then
        world=chaos_limits test=seeds
    fi
    if ! (cd "$copy" && cargo test --quiet --features _simulate --test "$world" --no-run) \
        >"$scratch/build" 2>&1; then
        echo "faults: $name does not compile:" >&2
        cat "$scratch/build" >&2
        failed=1
        return 0
    fi
    if (cd "$copy" && FANFARE_SEEDS="0..$seeds" timeout 300 \
        cargo test --quiet --features _simulate --test "$world" -- --exact "$test") >"$scratch/report" 2>&1; then
        echo "| \`$name\` | $description | **none** | |"
        echo "faults: no seed below $seeds finds $name" >&2
        failed=1
        return 0
    fi
    row=$(sed -nE -e 's/^seed ([0-9]+), step ([0-9]+): (.*)$/\1 | \2 | \3/p' \
        -e 's/^seed ([0-9]+) of a shard: (.*)$/\1 | (shard) | \2/p' "$scratch/report" | head -1)
    echo "| \`$name\` | $description | ${row:-| | it does not end} |"
}

# fault NAME DESCRIPTION [TEST] <<edits; the test `limits` is that of the second world.
fault() {
    name=$1
    if ! selected "$name" || [ "$mode" = list ]; then
        if [ "$mode" = list ]; then echo "$name"; fi
        cat >/dev/null
        return 0
    fi
    rm -rf "$copy/src"
    cp -r "$scratch/pristine" "$copy/src"
    if ! edit; then
        failed=1
    elif [ "$mode" = run ]; then
        bite "$2" "${3:-seeds}"
    fi
}

if [ "$mode" = run ]; then
    # What fails without a fault finds none.
    if ! (cd "$copy" && FANFARE_SEEDS="0..$seeds" \
        cargo test --quiet --features _simulate --test chaos --test chaos_limits -- seeds) \
        >"$scratch/report" 2>&1; then
        cat "$scratch/report" >&2
        echo "faults: a seed below $seeds fails without a fault" >&2
        exit 1
    fi
    echo '| fault | what is wrong | seed | step | what the simulator says |'
    echo '|---|---|---|---|---|'
fi

# What is told of gaps.

fault lag-count 'a reader is told one too many' <<'E'
src/subscription/mod.rs
- Step::Lagged(missed) => Found::Lagged(position.apply_policy(topic, Some(missed))),
+ Step::Lagged(missed) => Found::Lagged(position.apply_policy(topic, Some(missed + 1))),
E
fault lag-silent 'a reader that lost its place goes on without a word' <<'E'
src/log/cursor.rs
- match place {
-     _ if missed > 0 => return Step::Lagged(missed),
+ match place {
E
fault lag-batch-silent 'a batch forgets the notice it begins with' <<'E'
src/subscription/batch.rs
- if lag.is_some() {
+ if lag.is_some_and(|lag| lag.missed().is_none()) {
E
fault lag-skip 'SkipToLatest goes on behind the newest event' <<'E'
src/position.rs
- let mut newest = topic.log.end(&guard) - 1;
+ let mut newest = topic.log.end(&guard);
E
fault lag-skip-count 'SkipToLatest counts what was lost, and not what it skips' <<'E'
src/position.rs
- missed = missed.map(|missed| missed + skipped);
+
E
fault lag-no-end 'Disconnect goes on' <<'E'
src/position.rs
- LagPolicy::Disconnect => self.state = State::Ended(EndReason::Lagged),
+ LagPolicy::Disconnect => {}
E
fault lag-uncounted 'an end for lag is not counted' <<'E'
src/subscription/standing.rs
- shared.lagged.add(1);
+
E

# Coming back.

fault resume-again 'a client gets its last event once more' <<'E'
src/position.rs
- } else {
-     self.cursor.jump(id.offset() + 1);
+ } else {
+     self.cursor.jump(id.offset().max(1));
E
fault resume-any-life 'an id of another life is taken for one of this' <<'E'
src/position.rs
- if id.epoch() != topic.epoch {
+ if false {
E
fault resume-unknown-silent 'nobody says that nobody knows what is missing' <<'E'
src/position.rs
- fn begin_unknown(&mut self, topic: &TopicCore) {
-     self.state = State::Unknown;
+ fn begin_unknown(&mut self, topic: &TopicCore) {
E
fault resume-future 'an id of the future is the present' <<'E'
src/position.rs
- } else if id.offset() >= self.cursor.offset() {
-     self.state = State::Unknown;
+ } else if id.offset() >= self.cursor.offset() {
E
fault resume-joins-late 'what a newcomer comes for is taken away by those who read it' <<'E'
src/subscription/mod.rs
- this.position.begin(&this.topic, start, &guard);
- this.note_passed();
+ this.position.begin(&this.topic, start, &guard);
+ this.topic.subscribers.set_passed(&this.seat, this.topic.log.end(&guard));
E

# Wakes.

fault wake-no-summary 'a reader that parks leaves the bit of its group unset' <<'E'
src/subscribers/mod.rs
- group.arm_summary(usize::from(seat.number));
+
E
fault wake-top-when-leaf 'a reader that parks sets the top bit for the first of its group only' <<'E'
src/subscribers/mod.rs
- if self.top.load(Ordering::Relaxed) & bit == 0 {
+ if self.top.load(Ordering::Relaxed) == 0 {
E
fault wake-one-of-chunk 'the last of a chunk is not woken' <<'E'
src/subscribers/chunk.rs
- bits &= !(1 << index);
+ bits &= !(1 << index);
+ if index == 63 { continue; }
E
fault wake-many 'publish_many and publish wake when a chain begins only' <<'E'
src/topic/mod.rs
- if wake {
-     topic.subscribers.wake_armed();
+ if wake && visit {
+     topic.subscribers.wake_armed();
E
fault wake-close 'a close wakes nobody' <<'E'
src/topic/mod.rs
- panics.run(|| self.subscribers.wake());
+
E
fault wake-end 'an end from outside does not reach its reader' <<'E'
src/ending.rs
- spot.reach();
+
E
fault wake-beat 'heartbeats skip the first phase' <<'E'
src/subscribers/mod.rs
- if phase == 0 {
+ if phase == 9 {
E

# What stays and what goes.

fault evict-offset 'the oldest offset is raised one too far' <<'E'
src/log/mod.rs
- self.oldest_offset.store(oldest.first, Ordering::Release);
+ self.oldest_offset.store(oldest.first + 1, Ordering::Release);
E
fault evict-early 'one event less is kept than the limit says' <<'E'
src/log/mod.rs
- self.end(guard).saturating_sub(next.first) >= retention.events
+ self.end(guard).saturating_sub(next.first) + 1 >= retention.events
E
fault evict-never-bytes 'the limit in bytes is not looked at' <<'E'
src/log/mod.rs
- || self.bytes() > retention.bytes
+
E
fault evict-bytes-kept 'evicted bytes are not taken off' <<'E'
src/log/mod.rs
- self.bytes.fetch_sub(bytes.cast_signed(), Ordering::Relaxed);
+
E
fault evict-young 'events go at half their age' <<'E'
src/log/mod.rs
- .is_some_and(|last| now.saturating_sub(last) > age_ticks)
+ .is_some_and(|last| now.saturating_sub(last) > age_ticks / 2)
E
fault evict-passed 'a small topic frees what one of its readers has passed, not all' <<'E'
src/subscribers/chunk.rs
- let mut least = u64::MAX;
- while occupied != 0 {
-     let index = occupied.trailing_zeros() as usize;
-     occupied &= occupied - 1;
-     least = least.min(self.waiter(index).holds());
+ let mut least = u64::MAX;
+ while occupied != 0 {
+     let index = occupied.trailing_zeros() as usize;
+     occupied &= occupied - 1;
+     least = self.waiter(index).passed();
E
fault release-unread 'an idle log is given back though somebody has not read it' <<'E'
src/topic/visit.rs
- self.log.release(least, &guard);
+ self.log.release(end, &guard);
E
fault release-never 'an idle log is not given back' <<'E'
src/topic/visit.rs
- } else if !config.history && quiet >= config.idle_ticks {
+ } else if false {
E

# Reading.

fault batch-left 'a batch goes on to what came after it began' <<'E'
src/subscription/batch.rs
- while position.left > 0
-     && let Step::Frame(frame) = reader.step_in_order()
- {
-     position.left -= 1;
+ while let Step::Frame(frame) = reader.step_in_order() {
E
fault batch-skip 'the cursor that crosses into another segment skips its first event' <<'E'
src/log/cursor.rs
- self.cursor.stand(next.first(), next);
+ self.cursor.stand(next.first() + u64::from(next.reserved() > 1), next);
E
fault end-unseen 'a reader that was ended reads on in batches' <<'E'
src/subscription/mod.rs
- fn peek(&mut self, guard: &Guard) -> Ahead {
-     if self.has_more() {
-         self.see_ends(guard);
+ fn peek(&mut self, guard: &Guard) -> Ahead {
+     if self.has_more() {
E

# Counts, and what is found where.

fault count-subscriber 'a subscription that is dropped is not counted out' <<'E'
src/subscription/mod.rs
- self.topic.exit(User::Subscription);
+
E
fault count-published 'an event is not counted' <<'E'
src/topic/mod.rs
- self.shared.counts.published(bytes);
+
E
fault key-closed 'a closed topic stays at its key' <<'E'
src/topic/mod.rs
- this.home.closing(this);
+
E
fault key-kept 'a topic stays when its last history has gone' <<'E'
src/topic/visit.rs
- if again == Again::Never {
-     self.offer_to_go();
+ if again == Again::Never {
E
fault key-lost 'a topic goes with its last user, and its history with it' <<'E'
src/topic/mod.rs
- users == 0 && !(self.config().history && !self.log.is_closed() && self.log.has_chain())
+ users == 0
E

# The shard of a reactor.

fault shard-held 'the log is held for those who were behind, for ever' seeds_of_a_shard <<'E'
src/transport/reactor/crowd.rs
- self.feed.hold(false);
+
E
fault shard-count 'a connection that ends is not counted out' seeds_of_a_shard <<'E'
src/transport/reactor/shard.rs
- core.exit(User::Subscription);
+
E
fault shard-lagged 'a connection that ends for lag is not counted as one' seeds_of_a_shard <<'E'
src/transport/reactor/shard.rs
- crowd.feed.topic().shared.lagged.add(1);
+
E

# What the hub bounds, and what readers choose: the second world.

fault closed-soon 'a closed log is given back at once' <<'E'
src/topic/visit.rs
- if quiet > age {
-     self.log.release(end, &guard);
+ if quiet > age || self.log.is_closed() {
+     self.log.release(end, &guard);
E
fault stalled-early 'a reader is given up in half of the time' limits <<'E'
src/topic/visit.rs
- if since < after {
+ if since < after / 2 {
E
fault stalled-progress 'a reader that goes on stays suspected' limits <<'E'
src/subscribers/waiter.rs
- self.standing.fetch_and(!SUSPECT, Ordering::Relaxed) & EVICTED != 0
+ self.standing.load(Ordering::Relaxed) & EVICTED != 0
E
fault stalled-never 'nobody is given up while the topic moves on' limits <<'E'
src/topic/visit.rs
- let who = if moved {
+ let who = if !moved {
E
fault stalled-count 'who is given up is not counted out' limits <<'E'
src/topic/visit.rs
- panics.run(|| this.exit(User::Subscription));
+
E
fault stalled-twice 'who is given up is counted out once more when it goes' limits <<'E'
src/subscription/standing.rs
- self.counted = false;
- self.evicted = true;
+ self.evicted = true;
E
fault stalled-place-twice 'who is given up gives back a place that was given back already' limits <<'E'
src/subscription/standing.rs
- if standing == Standing::Lost {
+ if standing == Standing::Evicted {
E
fault stalled-place-kept 'who is given up takes the place of the one who came after it' limits <<'E'
src/subscribers/waiter.rs
- self.generation.store(next, Ordering::Relaxed);
+ let _ = next;
E
fault cap-leak 'a place is not given back' limits <<'E'
src/topic/mod.rs
- self.shared.subscribers.add(-1);
- self.shared.give_place_back();
+ self.shared.subscribers.add(-1);
E
fault cap-one-more 'one more than the limit comes in' limits <<'E'
src/topic/shared.rs
- (count < limit).then_some(count + 1)
+ (count <= limit).then_some(count + 1)
E
fault cap-topic 'one more than the limit comes to a topic' limits <<'E'
src/topic/mod.rs
- (subscriptions < limit).then_some(users + user.one())
+ (subscriptions <= limit).then_some(users + user.one())
E
fault control-lost 'control events leave with their segment' limits <<'E'
src/log/mod.rs
- self.controls.keep(&segment.controls(), segment.born());
+
E
fault control-order 'control events that were missed come backwards' limits <<'E'
src/subscription/opening.rs
- first.extend(lost.frames);
+ first.extend(lost.frames.into_iter().rev());
E
fault choice-own 'a reader gets its own events alone' limits <<'E'
src/choice/mod.rs
- if self.excluded.is_some() && frame.sender() == self.excluded {
+ if self.excluded.is_some() && frame.sender() != self.excluded {
E
fault choice-lost 'control events that were missed pass every filter' limits <<'E'
src/subscription/opening.rs
- && choice.wants(&frame)
+ && (choice.wants(&frame) || true)
E
fault conflate-control 'control events supersede each other' limits <<'E'
src/choice/mod.rs
- _ if frame.is_control() => None,
+
E
fault conflate-after-lag 'what was newest stays decided over a lag' limits <<'E'
src/choice/mod.rs
- if ahead == Ahead::Notice {
-     self.reset();
- }
+
src/subscription/opening.rs
- choice.reset();
+ let _ = choice;
E
fault rate-burst 'a silence counts for nothing' limits <<'E'
src/choice/rate.rs
- self.next = self.next.max(self.now).saturating_add(self.interval);
+ self.next = self.now.saturating_add(self.burst);
E
fault rate-late 'a reader is woken long after its turn has come' limits <<'E'
src/choice/rate.rs
- self.watcher.wake_by(due, clock);
+ self.watcher.wake_by(due + 8, clock);
E
fault rate-stale 'a batch that begins with what was lost counts from the last read' limits <<'E'
src/subscription/mod.rs
- let waits = self.has_to_wait();
- if waits && self.position.state == State::Reading {
+ if self.position.state == State::Reading && self.has_to_wait() {
E
fault rate-asked 'who is asked to leave waits for its turn' limits <<'E'
src/subscription/choices.rs
- if leaves {
-     choice.lift_rate();
- }
- !leaves
+ true
E
fault leave-unread 'who is asked to leave does so at once' limits <<'E'
src/subscription/mod.rs
- if found == Ahead::Nothing && self.leaves() {
+ if self.leaves() {
E
fault leave-early 'everybody is old at the first visit' limits <<'E'
src/topic/visit.rs
- let due = |time| ticks_since(time, now) < u64::from(u32::MAX / 2);
+ let due = |_| now > 0;
E
fault drain-open 'a hub that is drained takes in more' limits <<'E'
src/topic/shared.rs
- if self.is_draining() {
+ if self.is_draining() && self.topics.load(Ordering::Relaxed) > 0 {
E
fault drain-cut 'those that are cut are not counted' limits <<'E'
src/drain.rs
- cut: usize::try_from(left).unwrap_or(0),
+ cut: usize::try_from(left / 2).unwrap_or(0),
E
fault drain-silent 'who is left at the deadline of a drain is not told' limits <<'E'
src/drain.rs
- self.give_up();
- return false;
+ return false;
E
fault memory-over 'the limit is some events higher than is said' limits <<'E'
src/memory.rs
- used + bytes as u64 > self.limits.hard
+ used + bytes as u64 > self.limits.hard + 8192
E
fault memory-kept 'a frame that is freed stays charged' limits <<'E'
src/memory.rs
- if word != 0 {
-     give_back(word);
+ if word == 1 {
+     give_back(word);
E
fault memory-segment 'a segment that is freed stays charged' limits <<'E'
src/log/segment.rs
- self.paid.give_back(bytes);
+ let _ = bytes;
E

exit "$failed"
