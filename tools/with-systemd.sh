#!/bin/bash
# with-systemd.sh - boot a throw-away systemd as PID 1 of its own namespaces,
# run one command inside, return that command's exit status, tear all down.
#
#   with-systemd.sh [OPTION]... [--] COMMAND [ARG]...
#
#     --bind DIR      the host's DIR, writable, at the same path inside (repeatable);
#                     without it everything is readable but writes are thrown away
#     --root DIR      boot a copy-on-write view of this root file system instead of
#                     the host's own, for another version of systemd
#     --boot-timeout S   seconds until the manager must be up (30)
#     --stop-timeout S   seconds for the orderly poweroff, then SIGKILL (10)
#     --journal FILE  write the inner journal to FILE when COMMAND ends
#     -v              say what is done, with times, on stderr
#
# Needs root, a cgroup2 mount somewhere (/sys/fs/cgroup or /sys/fs/cgroup/unified),
# overlayfs, and Debian's packages: systemd util-linux mount coreutils bash
# (all but systemd are always there). No D-Bus daemon is needed: systemctl, as
# root, talks to PID 1's private socket.
#
# Inside: root is an overlay (upper layer in a tmpfs), /run /dev /dev/shm are
# fresh tmpfs, /proc is the new PID namespace's, /sys and /proc/sys read-only,
# /sys/fs/cgroup is cgroup2 rooted at a sub-cgroup of the host's, the network
# namespace is new with lo up (127.0.0.1 and ::1).  /run/systemd/system and
# /etc/systemd/system are writable and empty of the host's own enabled units.
# The environment has WITH_SYSTEMD=1.
#
# Exit status: COMMAND's; 125 if the test bed itself failed.

set -u
me=with-systemd

die() { echo "$me: $*" >&2; exit 125; }

# ---------------------------------------------------------------- stage 2 ---
# Runs as PID 1 of the new namespaces and becomes systemd.
if [[ ${1-} == --stage2 ]]; then
	set -e
	state=$2 rootdir=$3 cgns=$4
	shift 4                                     # what is left: bind DIRs
	if [[ $cgns ]]; then
		# Enter the cgroup that is to be the root, alone: only a cgroup without
		# processes of its own can hand controllers down.
		echo 0 >"$cgns/cgroup.procs"
		exec unshare --cgroup -- /bin/bash "$0" --stage2 "$state" "$rootdir" "" "$@"
	fi
	export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	umask 022
	mount --make-rprivate /
	mount -t tmpfs -o mode=0755 with-systemd "$state"
	mkdir "$state"/{upper,work,root,tmp}
	r=$state/root
	mount -t overlay overlay -o "lowerdir=$rootdir,upperdir=$state/upper,workdir=$state/work" "$r"

	mkdir -p "$r"/{proc,sys,dev,run,tmp,etc/systemd/system}
	mount -t proc -o nosuid,nodev,noexec proc "$r/proc"
	mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs "$r/run"
	mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$r/sys"
	mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$r/sys/fs/cgroup"

	# No way to change the host's kernel by a sysctl; the network's are our own.
	mount --bind "$r/proc/sys" "$r/proc/sys"
	mount --bind "$r/proc/sys/net" "$r/proc/sys/net"
	mount -o remount,bind,ro,nosuid,nodev,noexec "$r/proc/sys"
	if [[ -e $r/proc/sysrq-trigger ]]; then
		mount --bind "$r/proc/sysrq-trigger" "$r/proc/sysrq-trigger"
		mount -o remount,bind,ro,nosuid,nodev,noexec "$r/proc/sysrq-trigger"
	fi

	mount -t tmpfs -o mode=0755,nosuid tmpfs "$r/dev"
	mkdir "$r/dev/net"
	for n in null zero full random urandom tty net/tun fuse; do   # no kmsg: the host's log
		[[ -e /dev/$n ]] || continue
		: >"$r/dev/$n"
		mount --bind "/dev/$n" "$r/dev/$n"
	done
	: >"$r/dev/console"; mount --bind /dev/null "$r/dev/console"
	mkdir "$r"/dev/{pts,shm,mqueue}
	mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts "$r/dev/pts"
	mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$r/dev/shm"
	mount -t mqueue mqueue "$r/dev/mqueue" || true
	ln -s pts/ptmx "$r/dev/ptmx"
	ln -s /proc/self/fd "$r/dev/fd"
	ln -s fd/0 "$r/dev/stdin"; ln -s fd/1 "$r/dev/stdout"; ln -s fd/2 "$r/dev/stderr"

	# Hide the host's own enabled units and configuration.
	mount -t tmpfs -o mode=0755 tmpfs "$r/etc/systemd/system"
	rm -f "$r/etc/fstab"; : >"$r/etc/fstab"
	tr -d - </proc/sys/kernel/random/uuid >"$state/tmp/machine-id"
	rm -f "$r/etc/machine-id"; cp "$state/tmp/machine-id" "$r/etc/machine-id"
	rm -rf "$r/var/log/journal"

	u=$r/run/systemd
	mkdir -p "$u"/{system,system.conf.d,journald.conf.d}
	cat >"$u/system.conf.d/with-systemd.conf" <<-'E'
	[Manager]
	DefaultTimeoutStartSec=20s
	DefaultTimeoutStopSec=5s
	StatusUnitFormat=name
	ShowStatus=no
	E
	cat >"$u/journald.conf.d/with-systemd.conf" <<-'E'
	[Journal]
	Storage=volatile
	ReadKMsg=no
	ForwardToSyslog=no
	ForwardToConsole=no
	ForwardToWall=no
	RateLimitIntervalSec=0
	E
	# systemd-tmpfiles must never run here: its "D /tmp" line would empty /tmp, and
	# with it every --bind below /tmp, that is the host's own files.
	mkdir -p "$r/run/lock" "$r/run/user" "$r/run/shm"
	chmod 1777 "$r/run/lock"

	# The boot target: what an ordinary service needs, and nothing else.
	cat >"$u/system/with-systemd.target" <<-'E'
	[Unit]
	Description=Test bed is up
	Requires=basic.target systemd-journald.service
	After=basic.target systemd-journald.service
	AllowIsolate=yes
	E
	for m in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
		systemd-udev-trigger.service systemd-sysctl.service systemd-modules-load.service \
		systemd-random-seed.service systemd-update-utmp.service systemd-update-done.service \
		systemd-sysusers.service systemd-tmpfiles-setup-dev.service systemd-tmpfiles-setup-dev-early.service \
		systemd-tmpfiles-setup.service systemd-tmpfiles-clean.service systemd-tmpfiles-clean.timer \
		systemd-journal-flush.service systemd-journal-catalog-update.service \
		systemd-firstboot.service systemd-machine-id-commit.service systemd-binfmt.service \
		systemd-hwdb-update.service systemd-remount-fs.service systemd-timesyncd.service \
		systemd-resolved.service systemd-networkd.service systemd-networkd.socket \
		systemd-pcrphase.service systemd-pcrphase-sysinit.service systemd-boot-update.service \
		systemd-boot-random-seed.service systemd-ask-password-console.path systemd-ask-password-wall.path \
		systemd-initctl.socket systemd-logind.service getty.target console-getty.service \
		apparmor.service proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount \
		sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
		dev-hugepages.mount dev-mqueue.mount tmp.mount kmod-static-nodes.service ldconfig.service \
		systemd-pstore.service systemd-journald-audit.socket systemd-bsod.service \
		networking.service ifupdown-pre.service e2scrub_reap.service nss-lookup.target \
		systemd-tpm2-setup.service systemd-tpm2-setup-early.service; do
		ln -s /dev/null "$u/system/$m"
	done
	mkdir -p "$r/etc/systemd/system-generators"  # no generator has work here
	if [[ -d $r/lib/systemd/system-generators ]]; then
		for g in "$r"/lib/systemd/system-generators/*; do
			ln -sf /dev/null "$r/etc/systemd/system-generators/${g##*/}"
		done
	fi

	for d in "$@"; do
		mkdir -p "$r$d"
		mount --rbind "$d" "$r$d"
	done

	ip link set lo up 2>/dev/null || true
	cd "$r"
	mkdir -p "$r/.old"
	pivot_root . .old
	umount -l /.old
	rmdir /.old 2>/dev/null || true
	cd /
	sd=
	for p in /usr/lib/systemd/systemd /lib/systemd/systemd; do [[ -x $p ]] && { sd=$p; break; }; done
	[[ $sd ]] || { echo "no systemd in $rootdir" >&2; exit 1; }
	# Without these PID 1 can reach neither the host's clock, modules nor ports.
	exec env -i PATH="$PATH" container=with-systemd LANG=C.UTF-8 SYSTEMD_IGNORE_CHROOT=0 \
		setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio --inh-caps=-sys_time,-sys_module,-sys_rawio -- \
		"$sd" --system --unit=with-systemd.target --show-status=false \
		--log-target=journal-or-kmsg systemd.log_level=info </dev/null
fi

# ---------------------------------------------------------------- stage 1 ---
binds=() rootdir=/ boot_timeout=30 stop_timeout=10 journal= verbose=0
while (($#)); do
	case $1 in
	--bind) binds+=("$(realpath -e -- "$2")") || die "no such directory: $2"; shift 2 ;;
	--root) rootdir=$(realpath -e -- "$2") || die "no such directory: $2"; shift 2 ;;
	--boot-timeout) boot_timeout=$2; shift 2 ;;
	--stop-timeout) stop_timeout=$2; shift 2 ;;
	--journal) journal=$2; shift 2 ;;
	-v) verbose=1; shift ;;
	-h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit 0 ;;
	--) shift; break ;;
	-*) die "unknown option $1" ;;
	*) break ;;
	esac
done
(($#)) || die "no command given (see --help)"
((EUID == 0)) || die "must run as root"
for t in unshare nsenter setpriv pivot_root mount; do
	command -v "$t" >/dev/null || PATH=$PATH:/usr/sbin:/sbin
	command -v "$t" >/dev/null || die "needs $t (Debian: util-linux, mount)"
done
[[ -x $rootdir/lib/systemd/systemd || -x $rootdir/usr/lib/systemd/systemd ]] ||
	die "no systemd in $rootdir (Debian: apt-get install systemd)"

exec 7<&0 8>&2                                   # 7: stdin for COMMAND, as a background job has none
t0=${EPOCHREALTIME/./}
say() { ((verbose)) && printf '%s: %6d ms  %s\n' "$me" $(((${EPOCHREALTIME/./} - t0) / 1000)) "$*" >&8; return 0; }

# A cgroup2 directory of our own.
cgmnt=
for d in /sys/fs/cgroup /sys/fs/cgroup/unified; do
	[[ -f $d/cgroup.procs && $(stat -fc %T "$d" 2>/dev/null) == cgroup2fs ]] && { cgmnt=$d; break; }
done
[[ $cgmnt ]] || die "no cgroup2 mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified"
cg=$cgmnt/with-systemd-$$
state=$(mktemp -d /tmp/with-systemd.XXXXXX) || die "mktemp failed"
pid1= unshare_pid= cmd_pid= done_cleanup=0

alive() { kill -0 "$1" 2>/dev/null && [[ $(sed 's/.*) //;s/ .*//' "/proc/$1/stat" 2>/dev/null) != Z ]]; }

# Is this the first process of a PID namespace below ours?
is_pid1() { [[ $(sed -n 's/^NSpid:[[:space:]]*[0-9].*[[:space:]]//p' "/proc/$1/status" 2>/dev/null) == 1 ]]; }

teardown() {
	((done_cleanup)) && return; done_cleanup=1
	trap '' INT TERM HUP
	# COMMAND and what it left behind first: PID 1 does not know them.  Not its
	# nsenter, though: that must live to reap it, or else the host's PID 1 has to,
	# and until it does the PID namespace cannot end.
	local i p n
	for i in {1..50}; do
		n=0
		while read -r p; do
			[[ $p == "$cmd_pid" ]] || { kill -KILL "$p"; n=1; }
		done <"$cg/ns/payload/cgroup.procs"
		((n)) || { [[ $cmd_pid ]] && alive "$cmd_pid"; } || break
		sleep 0.02
	done 2>/dev/null
	if [[ $pid1 ]] && alive "$pid1"; then
		say "poweroff"
		kill -s RTMIN+4 "$pid1" 2>/dev/null
		local end=$((SECONDS + stop_timeout))
		while alive "$pid1" && ((SECONDS < end)); do sleep 0.02; done
		alive "$pid1" && echo "$me: poweroff took over ${stop_timeout}s: killing" >&2
	fi
	# cgroup.kill needs Linux 5.14; killing PID 1 ends its whole PID namespace anyway.
	[[ -w $cg/cgroup.kill ]] && echo 1 >"$cg/cgroup.kill" 2>/dev/null
	[[ $pid1 ]] && is_pid1 "$pid1" && kill -KILL "$pid1" 2>/dev/null
	[[ $unshare_pid ]] && { wait "$unshare_pid"; } 2>/dev/null
	for i in {1..100}; do
		[[ -d $cg ]] || break
		find "$cg" -depth -type d -exec rmdir {} + 2>/dev/null
		[[ -d $cg ]] || break
		sleep 0.02
	done
	[[ -d $cg ]] && echo "$me: could not remove $cg" >&2
	[[ -s $state.log ]] && ((verbose)) && sed "s/^/$me: boot: /" "$state.log" >&2
	rm -f "$state.log"
	rmdir "$state" 2>/dev/null || echo "$me: could not remove $state" >&2
	say "torn down"
}
trap teardown EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

mkdir "$cg" || die "cannot make a cgroup below $cgmnt"
mkdir "$cg/outer" "$cg/ns" "$cg/ns/payload"
for c in $(<"$cg/cgroup.controllers"); do { echo "+$c" >"$cg/cgroup.subtree_control"; } 2>/dev/null; done

self=$(realpath "$0")
(
	echo $BASHPID >"$cg/outer/cgroup.procs" || exit 1
	exec unshare --mount --pid --ipc --uts --net --fork --kill-child=SIGKILL --propagation private -- \
		/bin/bash "$self" --stage2 "$state" "$rootdir" "$cg/ns" ${binds[@]+"${binds[@]}"}
) </dev/null >"$state.log" 2>&1 7<&- 8>&- &
unshare_pid=$!

inside() {
	nsenter --target "$pid1" --mount --uts --ipc --net --pid --cgroup --root --wdns=/ -- "$@"
}

# Wait for the manager, then for its boot job.
deadline=$((SECONDS + boot_timeout))
while :; do
	alive "$unshare_pid" || { cat "$state.log" >&2; die "the namespaces could not be set up"; }
	if [[ ! $pid1 ]]; then
		while read -r p; do                     # the one that is PID 1 of a namespace of its own
			is_pid1 "$p" && pid1=$p
		done < <(cat "$cg/outer/cgroup.procs" "$cg/ns/cgroup.procs" "$cg/ns/init.scope/cgroup.procs" 2>/dev/null)
		[[ $pid1 ]] && say "PID 1 is $pid1"
	elif [[ -S /proc/$pid1/root/run/systemd/private ]]; then
		break
	fi
	((SECONDS < deadline)) || { cat "$state.log" >&2; die "systemd not up after ${boot_timeout}s"; }
	sleep 0.02
done
say "manager listens"
while :; do
	s=$(inside systemctl is-system-running 2>/dev/null)
	[[ $s == running || $s == degraded ]] && break
	alive "$pid1" || { cat "$state.log" >&2; die "systemd died while booting"; }
	((SECONDS < deadline)) || { inside systemctl list-jobs >&2; die "boot not finished after ${boot_timeout}s (state: $s)"; }
	sleep 0.03
done
say "system is $s"
if [[ $s == degraded ]] && ((verbose)); then inside systemctl --failed --no-legend --plain >&2; fi

# The command, in a sub-cgroup of ours so that it dies with the rest.
(
	echo $BASHPID >"$cg/ns/payload/cgroup.procs"
	unset NOTIFY_SOCKET LISTEN_FDS LISTEN_PID LISTEN_FDNAMES WATCHDOG_USEC WATCHDOG_PID XDG_RUNTIME_DIR DBUS_SESSION_BUS_ADDRESS
	export WITH_SYSTEMD=1 container=with-systemd SYSTEMD_PAGER= SYSTEMD_COLORS=0
	exec nsenter --target "$pid1" --mount --uts --ipc --net --pid --cgroup --root --wdns=/ -- \
		/bin/sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' "$PWD" "$@"
) <&7 7<&- 8>&- &
cmd_pid=$!
exec 7<&-
{ wait "$cmd_pid"; } 2>/dev/null
status=$?
say "command ended with $status"
if [[ $journal ]]; then
	inside journalctl --sync >/dev/null 2>&1
	inside journalctl -b --no-pager -o short-precise >"$journal" 2>&1
fi
teardown
exit "$status"
