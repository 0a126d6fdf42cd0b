# shellcheck shell=bash
# The quick start's machinery: one instance, its namespaces, its processes, its end.
#
# An instance touches nothing that it did not make: its network is inside namespaces of its own, its files are in
# one directory of its own, and it ends only processes whose id and start time it wrote down.

readonly HOSTS=(hub web db metrics intruder)
# shellcheck disable=SC2034 # the story uses it
readonly DOMAIN=acme.example
readonly UNDERLAY=10.66.0
# shellcheck disable=SC2034 # the story uses it
readonly NOBODY=100.64.200.200 # an overlay address that no node has

instance='' # directory of this instance; empty before it exists
id=''       # its short name, part of every namespace's name
last=''     # file with the output of the last command shown
binaries='' # directory with the programs
code=0      # exit code of the last command shown
steps=0

# --- talking ----------------------------------------------------------------------------------------------

bold='' dim='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
fi

say() { printf '%s\n' "$*"; }

step() {
    steps=$((steps + 1))
    printf '\n%s%2d. %s%s\n' "$bold" "$steps" "$*" "$plain"
}

# Ends the run. Says what was expected, and what the daemons said last.
fail() {
    trap - ERR
    printf '\n%sFAILED%s at step %d: %s\n' "$bold" "$plain" "$steps" "$*" >&2
    if [[ -n $instance ]]; then
        local log
        for log in "$instance"/*/log; do
            [[ -s $log ]] || continue
            printf -- '--- the last lines of %s\n' "$log" >&2
            tail -n 15 "$log" >&2
        done
    fi
    exit 1
}

# A command as a person would type it: quotes only where they are needed.
typed() {
    local word words=()
    for word in "$@"; do
        if [[ $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then
            words+=("$word")
        elif [[ $word != *[\"\$\`\\]* ]]; then
            words+=("\"$word\"")
        else
            words+=("${word@Q}")
        fi
    done
    printf '%s' "${words[*]}"
}

# --- running ----------------------------------------------------------------------------------------------

# Becomes a command on a host: in its namespace and directory, with our binaries first. Replaces this shell, so
# that the process id of a background job is the command's own.
become() {
    local host=$1
    shift
    cd "$instance/$host" || exit 1
    exec ip netns exec "bh-$id-$host" env \
        HOME="$instance/$host" PATH="$binaries:$PATH" \
        BULKHEAD_STATE="$instance/$host/state" BULKHEAD_SOCKET="$instance/$host/bulkhead.sock" \
        BULKHEAD_CONFIG=/dev/null BULKHEAD_COORDINATOR_CONFIG=/dev/null \
        BULKHEAD_COORDINATOR_STATE="$instance/hub/state" \
        BULKHEAD_COORDINATOR_SOCKET="$instance/hub/admin.sock" BULKHEADCTL_SOCKET="$instance/hub/admin.sock" \
        PGCONNECT_TIMEOUT=5 PGUSER=app PGDATABASE=shop PSQLRC=/dev/null PAGER=cat \
        "$@"
}

# Runs a command on a host.
inside() { (become "$@"); }

# Shows a command, runs it on a host, shows what it printed; leaves that in $last and its exit code in $code.
on() {
    local host=$1
    shift
    printf '  %s%s#%s %s\n' "$dim" "$host" "$plain" "$(typed "$@")"
    code=0
    inside "$host" "$@" >"$last" 2>&1 </dev/null || code=$?
    sed 's/^/      /' "$last"
    if ((code != 0)); then printf '      %s[exit code %d]%s\n' "$dim" "$code" "$plain"; fi
}

# Shows a daemon's command and starts it on a host; its log goes to HOST/log.
start() {
    local host=$1
    shift
    printf '  %s%s#%s %s &\n' "$dim" "$host" "$plain" "$(typed "$@")"
    become "$host" setsid "$@" >>"$instance/$host/log" 2>&1 </dev/null &
    remember "$!" "$host"
}

expect_ok() { ((code == 0)) || fail "the command above should have succeeded"; }
expect_code() { ((code == $1)) || fail "this should have ended with exit code $1, not $code: $2"; }
expect_refused() { ((code != 0)) || fail "this should have been refused: $1"; }
expect_text() { grep -qE -- "$1" "$last" || fail "its output should have matched /$1/"; }
expect_no_text() { ! grep -qE -- "$1" "$last" || fail "its output should not have matched /$1/"; }

# Waits until a command succeeds on a host, at most SECONDS; what it is waiting for names the failure.
await() {
    local seconds=$1 what=$2 host=$3
    shift 3
    local deadline=$((SECONDS + seconds))
    until inside "$host" "$@" >"$last" 2>&1 </dev/null; do
        if ((SECONDS >= deadline)); then
            cat "$last" >&2
            fail "$what: not within $seconds s (command: $(typed "$@"))"
        fi
        sleep 0.1
    done
}

now_ms() { printf '%s' $((${EPOCHREALTIME/./} / 1000)); }

# --- processes --------------------------------------------------------------------------------------------

# Clock ticks at which a process started: with its id, a name that is never given twice.
start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # shellcheck disable=SC2086 # the fields after the parenthesised command are numbers and one letter
    set -- ${stat##*) }
    [[ $1 != Z ]] && printf '%s' "${20}"
}

remember() { printf '%s %s %s\n' "$1" "$(start_time "$1" || echo gone)" "$2" >>"$instance/processes"; }

# Ends a process if it is still the one that was remembered: first politely.
end_process() {
    local pid=$1 started=$2 signal tries
    for signal in TERM KILL; do
        [[ $(start_time "$pid" || true) == "$started" ]] || return 0
        kill -s "$signal" "$pid" 2>/dev/null || return 0
        for ((tries = 0; tries < 50; tries++)); do
            [[ $(start_time "$pid" || true) == "$started" ]] || return 0
            sleep 0.1
        done
    done
    say "warning: process $pid does not end" >&2
}

# --- the network ------------------------------------------------------------------------------------------

add_namespace() {
    # Written down first: what was begun can be removed.
    printf '%s\n' "bh-$id-$1" >>"$instance/namespaces"
    ip netns add "bh-$id-$1"
    ip -n "bh-$id-$1" link set lo up
}

# One bridge in a namespace of its own, a cable from it to every host.
build_network() {
    local lan=bh-$id-lan host number=10
    ip -n "$lan" link set lo up
    ip -n "$lan" link add lan0 type bridge
    ip -n "$lan" link set lan0 up
    for host in "${HOSTS[@]}"; do
        mkdir -m 0700 "$instance/$host"
        add_namespace "$host"
        ip -n "$lan" link add "to-$host" type veth peer name eth0 netns "bh-$id-$host"
        ip -n "$lan" link set "to-$host" master lan0 up
        ip -n "bh-$id-$host" address add "$UNDERLAY.$number/24" dev eth0
        ip -n "bh-$id-$host" link set eth0 up
        number=$((number + 1))
    done
}

underlay() {
    local host number=10
    for host in "${HOSTS[@]}"; do
        [[ $host != "$1" ]] || printf '%s' "$UNDERLAY.$number"
        number=$((number + 1))
    done
}

# `ip netns exec` shows this file as /etc/resolv.conf, so that a host may write its own and not this machine's.
# Where that does not work, we go no further.
own_resolv_conf() {
    mkdir -p "/etc/netns/bh-$id-$1"
    printf '# resolv.conf of %s\n' "bh-$id-$1" >"/etc/netns/bh-$id-$1/resolv.conf"
    inside "$1" grep -qxF "# resolv.conf of bh-$id-$1" /etc/resolv.conf ||
        fail 'ip netns exec does not give a namespace its own resolv.conf here'
}

# --- instances --------------------------------------------------------------------------------------------

instances() {
    local directory
    for directory in "${TMPDIR:-/tmp}"/bulkhead-quickstart-*; do
        # /tmp is everybody's: only a directory that root made is an instance.
        [[ -d $directory && ! -L $directory && -O $directory && -f $directory/id ]] || continue
        cat "$directory/id"
    done
}

valid_id() { [[ $1 =~ ^[a-z0-9]{1,8}$ ]]; }

# Sets $id to the wanted name or a random one; says so if it is taken.
choose_id() {
    id=${1:-$(od -An -N3 -tx1 /dev/urandom | tr -d ' \n')}
    if ! valid_id "$id"; then
        say 'quickstart: --id takes 1 to 8 of a-z and 0-9' >&2
        exit 2
    fi
    if instances | grep -qxF -- "$id"; then
        say "quickstart: instance $id exists; remove it with: deploy/quickstart --down $id" >&2
        exit 1
    fi
}

create_instance() {
    instance=$(mktemp -d "${TMPDIR:-/tmp}/bulkhead-quickstart-$id-XXXXXX")
    # PostgreSQL runs as postgres and has to pass through; every directory inside is its owner's alone.
    chmod 0711 "$instance"
    last=$instance/last
    # Only one can make this namespace: whoever does owns every name with this id.
    if ! ip netns add "bh-$id-lan" 2>"$last"; then
        rm -rf "$instance"
        instance=''
        say "quickstart: somebody else uses the name $id; choose another with --id" >&2
        exit 1
    fi
    printf '%s\n' "bh-$id-lan" >"$instance/namespaces"
    printf '%s\n' "$id" >"$instance/id"
}

find_instance() {
    local directory
    for directory in "${TMPDIR:-/tmp}/bulkhead-quickstart-$1"-*; do
        [[ -d $directory && ! -L $directory && -O $directory && -f $directory/id ]] || continue
        [[ $(<"$directory/id") == "$1" ]] || continue
        instance=$directory id=$1 last=$directory/last
        return 0
    done
    return 1
}

# Removes the instance in $instance: processes, namespaces, files, in this order.
remove_instance() {
    [[ -n $instance && -d $instance ]] || return 0
    local pid started name
    if [[ -s $instance/postgres/data/postmaster.pid ]]; then
        stop_postgres || true
    fi
    if [[ -f $instance/processes ]]; then
        while read -r pid started _; do
            end_process "$pid" "$started"
        done < <(tac "$instance/processes")
    fi
    if [[ -f $instance/namespaces ]]; then
        while read -r name; do
            [[ $name == "bh-$id-"* ]] || continue
            # Whatever is left in a namespace of ours was started in it by us.
            for pid in $(ip netns pids "$name" 2>/dev/null || true); do
                started=$(start_time "$pid") && end_process "$pid" "$started"
            done
            ip netns delete "$name" 2>/dev/null || true
            rm -rf "/etc/netns/$name"
        done <"$instance/namespaces"
        rmdir /etc/netns 2>/dev/null || true
    fi
    rm -rf "$instance"
    instance=''
}

# --- PostgreSQL -------------------------------------------------------------------------------------------

postgres_binaries() {
    local directory newest=''
    for directory in /usr/lib/postgresql/*/bin; do
        if [[ -x $directory/initdb ]]; then newest=$directory; fi
    done
    printf '%s' "$newest"
}

# From a directory that postgres may be in.
as_postgres() { (cd / && exec ip netns exec "bh-$id-db" runuser -u postgres -- "$@"); }

# A cluster of its own that listens on the overlay addresses only. Whom to let in is Bulkhead's business.
start_postgres() {
    local listen=$1 data=$instance/postgres/data
    install -d -o postgres -g postgres -m 0700 "$instance/postgres"
    {
        as_postgres "$(postgres_binaries)/initdb" -D "$data" --auth-local=peer --auth-host=reject --no-sync &&
            printf 'host shop app 100.64.0.0/10 trust\nhost shop app fd00::/8 trust\n' >>"$data/pg_hba.conf" &&
            as_postgres "$(postgres_binaries)/pg_ctl" -D "$data" -l "$instance/postgres/log" -w -t 30 \
                -o "-c listen_addresses=$listen -c unix_socket_directories=$instance/postgres -c fsync=off" start &&
            as_postgres psql -X -q -h "$instance/postgres" -d postgres -c 'create role app login' \
                -c 'create database shop owner app'
    } >"$last" 2>&1 </dev/null || return 1
    remember "$(head -n 1 "$data/postmaster.pid")" postgres
}

stop_postgres() {
    as_postgres "$(postgres_binaries)/pg_ctl" -D "$instance/postgres/data" -m fast -w -t 20 stop >/dev/null 2>&1
}
