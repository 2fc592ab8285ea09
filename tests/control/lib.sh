# SPDX-License-Identifier: MIT
#
# Helpers of the sessions, which run in the control domain with sh -eu.
#
# A session is one behaviour of the stock tools, in a file <name>.sh. It ends well when its last
# line is reached; fail, or any command that fails, ends it otherwise. /tests/clean runs behind it.

LOGS=/var/log/xen/console

fail() {
	echo "$*" >&2
	exit 1
}

# wait_for <seconds> <command>...: until the command succeeds
wait_for() {
	limit=$(($(date +%s) + $1))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt "$limit" ] || fail "never true: $*"
		sleep 0.1
	done
}

# guest <name> [<line of configuration>]...: describes a stock guest with a shell on its console
guest() {
	guest_name=$1
	shift
	{
		printf '%s\n' "name = '$guest_name'" "type = 'pvh'" "kernel = '/guests/vmlinuz'" \
			"ramdisk = '/guests/initrd'" 'memory = 128' \
			"cmdline = 'console=hvc0 quiet guest=$guest_name'"
		[ $# = 0 ] || printf '%s\n' "$@"
	} >"/etc/xen/$guest_name.cfg"
}

# start <name> [<line>]...: describes and creates it, and waits for its shell
start() {
	guest "$@"
	xl create -q "/etc/xen/$1.cfg"
	says "$1" "HOSPES-INIT-OK name=$1" >/dev/null
	says "$1" "$1:/# " >/dev/null
}

# says <name> <regular expression> [<seconds>]: waits for it on the guest's console, behind what an
# earlier call found; prints the line
says() {
	wait_for "${3:-60}" says_now "$1" "$2"
	cat /tmp/said
}

# The last line may grow: it counts as read only when another follows.
says_now() {
	mark=0
	[ ! -e "/tmp/mark.$1" ] || read -r mark <"/tmp/mark.$1"
	expression=$2 awk -v from="$mark" -v mark="/tmp/mark.$1" '
		{ sub(/\r+$/, "") }
		found { print found >mark; wrote = 1; exit }
		NR > from && $0 ~ ENVIRON["expression"] { print >"/tmp/said"; found = NR }
		END { if (found && !wrote) print found - 1 >mark; exit !found }
	' "$LOGS/guest-$1.log" 2>/dev/null
}

# tell <name> <line>: types it on the guest's console
tell() {
	printf '%s\n' "$2" >"$(xenstore-read "/local/domain/$(xl domid "$1")/console/tty")"
}

# ask <name> <line>: types it, waits until it is over and prints its last line of output
ask() {
	tell "$1" "a=\$($2); echo \"ANSWER\"=\"\$a\"="
	answer=$(says "$1" '^ANSWER=.*=$' 300) || return
	echo "$answer" | sed 's/^[^=]*=//; s/=$//'
}

# moved <name>: it came by migration, and its console is in the log of the name it had meanwhile
moved() {
	[ ! -L "$LOGS/guest-$1.log" ] || return 0
	ln -sf "guest-$1--incoming.log" "$LOGS/guest-$1.log"
	rm -f "/tmp/mark.$1"
}

# state <name>: the letters of xl list, such as -b----
state() {
	xl list "$1" | awk 'NR == 2 { print $5 }'
}

paused() {
	case $(state "$1") in ??p*) ;; *) return 1 ;; esac
}

gone() {
	! xl domid "$1" >/dev/null 2>&1
}

# disk <name> <MiB>: an empty disk image; prints the line of configuration for it
disk() {
	rm -f "/disks/$1"
	dd if=/dev/zero of="/disks/$1" bs=1M count="$2" 2>/dev/null
	echo "disk = ['/disks/$1,raw,xvda,w']"
}

free_memory() {
	xl info free_memory
}

# settled <free memory>: all but it is free again
settled() {
	[ "$(free_memory)" -ge "$1" ]
}
