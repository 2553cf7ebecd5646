package config

import (
	"math"
	"syscall"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A key is all that is known about one key of the configuration. What decodes
// it, what its default is, and what the reference and the sample say of it come
// from here alone.
type key struct {
	in   string // its table: manager, socket, service, service.reload …; "" for the top
	name string
	is   reader // nil: known, and not in this version
	def  string // the default, as TOML; what others depend on is filled in by complete
	when string // the default in words, where it depends on something
	like string // systemd's directive
	unit string // of a bare number
	says string // meaning, for the reference: one or two sentences
	eg   string // an example, as TOML: the sample has the key with it, or else with def
	show bool   // the sample has it not only as a comment
}

// A reader stores what stands at a cursor in a target.
type reader interface {
	kind() string
	schema() schema // nil: as shapes says
	read(*target, cursor)
}

// A target is what a table is decoded into: the one that it is for is not nil.
type target struct {
	m *Manager
	s *socket
	u *service
}

type field[T any] struct {
	of kind[T]
	at func(*target) *T
}

func (f field[T]) kind() string             { return f.of.name }
func (f field[T]) schema() schema           { return f.of.shape }
func (f field[T]) read(t *target, c cursor) { *f.at(t) = f.of.read(c) }

// into reads a kind of value into a field of a target.
func into[T any](of kind[T], at func(*target) *T) reader { return field[T]{of, at} }

// keys are all there are, in the order of the reference.
var keys = []key{
	{
		name: "include", is: included{}, def: `[]`, eg: `["services.d/*.toml"]`,
		says: "More files: paths with `*`, `?` and `[…]`, relative to this one. Each may define sockets and services; `[manager]` and `include` belong in the first file.",
	},

	{
		in: "manager", name: "runtime_directory", eg: `"/run/supervisord"`, is: into(directory, func(t *target) *string { return &t.m.RuntimeDirectory }),
		when: "`/run/supervisord` as root, else `$XDG_RUNTIME_DIR/supervisord`",
		says: "Holds the control socket, and what the next supervisord must know about this one. Created with mode 0711. At most 83 bytes, to leave room for the names of the sockets in it.",
	},
	{
		in: "manager", name: "state_directory", eg: `"/var/lib/supervisord"`, is: into(directory, func(t *target) *string { return &t.m.StateDirectory }),
		when: "`/var/lib/supervisord` as root, else `$XDG_STATE_HOME/supervisord`",
		says: "Holds what must survive a reboot: the history, and the number of each service's last generation.",
	},
	{
		in: "manager", name: "log_directory", eg: `"/var/log/supervisord"`, is: into(directory, func(t *target) *string { return &t.m.LogDirectory }),
		when: "`/var/log/supervisord` as root, else `log` below `state_directory`",
		says: "Holds each service's `NAME.log`.",
	},
	{
		in: "manager", name: "read_group", eg: `"adm"`, is: into(noGroup, func(t *target) *string { return &t.m.ReadGroup }),
		when: "`adm` as root, if there is such a group",
		says: "A group that may read the log files.",
	},
	{
		in: "manager", name: "admin_group", is: into(noGroup, func(t *target) *string { return &t.m.AdminGroup }), def: `""`,
		says: "A group that may control services. Not in effect yet: in this version only root and supervisord's own user may.",
	},
	{
		in: "manager", name: "log_level", is: into(choice([]string{"debug", "info", "warn", "error"}), func(t *target) *string { return &t.m.LogLevel }), def: `"info"`,
		says: "How much supervisord logs about itself, on stderr.",
	},
	{
		in: "manager", name: "metrics_listen", eg: `"127.0.0.1:9475"`, is: into(metricsAddress, func(t *target) *unit.Address { return &t.m.MetricsListen }),
		when: "not served", says: "Where `/metrics` is served for Prometheus: a TCP address that includes the host, or a path for a unix socket of mode 0660. Anyone who can connect can read names, states and addresses.",
	},

	{
		in: "socket", name: "listen_stream", show: true, is: into(addresses, func(t *target) *[]unit.Address { return &t.s.Listen }), like: "ListenStream=",
		eg:   `["127.0.0.1:8080"]`,
		says: "The addresses to listen on: `\"127.0.0.1:8080\"`, `\"[::1]:8080\"`, `\"8080\"` (all addresses, IPv4 and IPv6), `\"/run/api.sock\"`, `\"@name\"` (abstract). Port 0 means any free port. Required.",
	},
	{in: "socket", name: "listen_datagram", like: "ListenDatagram=", says: "The same for UDP and datagram sockets."},
	{
		in: "socket", name: "backlog", is: into(integer(1, math.MaxInt32), func(t *target) *int { return &t.s.Backlog }), def: `4096`, like: "Backlog=",
		unit: "connections", says: "How many connections can wait to be accepted. The kernel caps it at `net.core.somaxconn`.",
	},
	{
		in: "socket", name: "when_down", is: into(choice([]unit.WhenDown{unit.Refuse, unit.Queue}), func(t *target) *unit.WhenDown { return &t.s.WhenDown }), def: `"refuse"`,
		says: "What happens to clients while no service of this socket is running or starting: `refuse` turns them away, `queue` has them wait for the next start.",
	},
	{
		in: "socket", name: "file_descriptor_name", is: into(fdName, func(t *target) *string { return &t.s.FDName }), like: "FileDescriptorName=",
		when: "the name of the socket", says: "Its name in `LISTEN_FDNAMES`.",
	},
	{
		in: "socket", name: "socket_mode", is: into(octal, func(t *target) *int { return &t.s.mode }), def: `"0666"`, like: "SocketMode=",
		says: "The mode of a unix socket's file: whoever can write to it can connect.",
	},
	{
		in: "socket", name: "socket_user", eg: `"www-data"`, is: into(anyUser, func(t *target) *string { return &t.s.User }), like: "SocketUser=",
		when: "supervisord's own", says: "The owner of a unix socket's file: a name or a decimal id.",
	},
	{
		in: "socket", name: "socket_group", eg: `"www-data"`, is: into(anyGroup, func(t *target) *string { return &t.s.Group }), like: "SocketGroup=",
		when: "supervisord's own", says: "Its group.",
	},
	{
		in: "socket", name: "non_blocking", is: into(boolean, func(t *target) *bool { return &t.s.NonBlocking }), def: `true`, like: "NonBlocking=",
		says: "Whether `accept` returns at once when no connection is waiting. Go, Node.js and event loops need that; a program that simply calls `accept` in a loop needs `false`.",
	},
	{
		in: "socket", name: "no_delay", is: into(boolean, func(t *target) *bool { return &t.s.NoDelay }), def: `true`, like: "NoDelay=",
		says: "`TCP_NODELAY` on connections accepted at a TCP address: small responses are sent at once. With `false`, systemd's default, a program that does not set it itself can be ten times slower on keep-alive connections.",
	},
	{
		in: "socket", name: "keep_alive", is: into(boolean, func(t *target) *bool { return &t.s.KeepAlive }), def: `false`, like: "KeepAlive=",
		says: "`SO_KEEPALIVE` on accepted connections.",
	},
	{
		in: "socket", name: "free_bind", is: into(boolean, func(t *target) *bool { return &t.s.FreeBind }), def: `false`, like: "FreeBind=",
		says: "Bind even to an address that this machine does not have yet.",
	},
	{
		in: "socket", name: "bind_ipv6_only", is: into(choice([]string{"default", "both", "ipv6-only"}), func(t *target) *string { return &t.s.ipv6Only }), def: `"default"`, like: "BindIPv6Only=",
		says: "Whether `[::]` takes IPv4 as well. `default` follows `net.ipv6.bindv6only`.",
	},
	{
		in: "socket", name: "receive_buffer", is: into(sized(1, 1<<30), func(t *target) *int64 { return &t.s.receiveBuf }), when: "the kernel's", like: "ReceiveBuffer=",
		unit: "bytes", says: "`SO_RCVBUF`.", eg: `"256K"`,
	},
	{
		in: "socket", name: "send_buffer", is: into(sized(1, 1<<30), func(t *target) *int64 { return &t.s.sendBuf }), when: "the kernel's", like: "SendBuffer=",
		unit: "bytes", says: "`SO_SNDBUF`.", eg: `"256K"`,
	},
	{
		in: "socket", name: "steer", is: into(choice([]string{"auto", "off", "connections"}, "quic", "current"), func(t *target) *string { return &t.s.steer }), def: `"auto"`,
		says: "With `connections`, each process has its own queue at every TCP address, and supervisord decides, in the kernel, which process gets a new connection: one that has yet to prove itself gets none, or its `canary` share, and an old one gets no more before it is told to exit. Clients of a process that dies, or of an old one that hangs, move to the next. With `off`, all processes accept from one queue. `auto` is `connections` if one service has the socket, with `instances` = 1 or a `canary`, and `off` otherwise; `superctl scale` does not change that. Steering needs `CAP_BPF` and Linux 5.14; without them the socket is shared, and status says why if you asked for it. Unix sockets, and sockets passed by systemd, are always shared.",
	},
	{in: "socket", name: "per_worker", says: "A socket for each process."},

	{
		in: "service", name: "exec_start", show: true, is: into(argv, func(t *target) *[]string { return &t.u.Program.Argv }), like: "ExecStart=",
		eg:   `["/srv/api/api", "-listen", "fd"]`,
		says: "What to run: a list of arguments, or one string that is split at whitespace, with '…' or \"…\" around arguments that contain any. There is no shell, and neither `$VAR` nor `%i` is expanded. A bare name is looked up in `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`, or in your `PATH` if supervisord does not run as root; `./name` is relative to this file. Required.",
	},
	{
		in: "service", name: "type", show: true, eg: `"notify"`, is: into(choice([]unit.Type{unit.Exec, unit.Notify, unit.Oneshot}, "notify-reload", "simple", "forking", "dbus", "idle"), func(t *target) *unit.Type { return &t.u.Life.Type }), def: `"exec"`, like: "Type=",
		says: "When it counts as ready: `exec`, once its program runs; `notify`, once it has sent `READY=1` (sd_notify); `oneshot`, once it has exited successfully.",
	},
	{
		in: "service", name: "sockets", show: true, is: into(strs, func(t *target) *[]string { return &t.u.sockets }), def: `[]`, like: "Sockets=",
		eg:   `["http"]`,
		says: "Names of the `[socket.NAME]` that it is passed, as file descriptors from 3 up, in this order.",
	},
	{
		in: "service", name: "start", is: into(choice([]string{"boot", "manual"}, "on-demand"), func(t *target) *string { return &t.u.start }), def: `"boot"`,
		says: "`boot` starts it with supervisord, `manual` only when asked to.",
	},
	{
		in: "service", name: "remain_after_exit", is: into(boolean, func(t *target) *bool { return &t.u.Life.RemainAfterExit }), def: `false`, like: "RemainAfterExit=",
		says: "For type `oneshot`: it still counts as active after it has exited successfully.",
	},
	{
		in: "service", name: "working_directory", is: into(text, func(t *target) *string { return &t.u.Program.Dir }), like: "WorkingDirectory=",
		when: "`/` as root, else the directory of the file", eg: `"/srv/api"`, says: "The directory it runs in. A relative path is relative to this file.",
	},
	{
		in: "service", name: "user", is: into(anyUser, func(t *target) *string { return &t.u.Program.User }), like: "User=",
		when: "supervisord's own", eg: `"api"`, says: "The user it runs as: a name or a decimal id, looked up at each start. Sets `HOME`, `USER`, `LOGNAME` and `SHELL`. Needs root.",
	},
	{
		in: "service", name: "group", eg: `"api"`, is: into(anyGroup, func(t *target) *string { return &t.u.Program.Group }), like: "Group=",
		when: "that of `user`", says: "The group it runs as.",
	},
	{
		in: "service", name: "umask", is: into(octal, func(t *target) *int { return &t.u.Program.Umask }), def: `"0022"`, like: "UMask=",
		says: "The permission bits that are cleared on files it creates.",
	},
	{
		in: "service", name: "nice", is: into(maybe(integer(-20, 19)), func(t *target) **int { return &t.u.Program.Nice }), when: "0; as PID 1 supervisord's own", like: "Nice=",
		says: "From -20 (runs first) to 19.", eg: `10`,
	},
	{
		in: "service", name: "oom_score_adj", is: into(maybe(integer(-1000, 1000)), func(t *target) **int { return &t.u.Program.OOMScoreAdj }), when: "0; as PID 1 supervisord's own, and without root never less than that", like: "OOMScoreAdjust=",
		says: "From -1000 (never killed when memory is short) to 1000 (killed first).", eg: `500`,
	},

	{
		in: "service", name: "environment", is: into(environment, func(t *target) *unit.Secrets { return &t.u.Program.Environment }), when: "empty", like: "Environment=",
		eg:   `{ GOMEMLIMIT = "400MiB" }`,
		says: "A table, or a list of `\"KEY=value\"`. The values are never shown.",
	},
	{
		in: "service", name: "environment_file", is: into(files, func(t *target) *[]string { return &t.u.Program.EnvironmentFiles }), when: "none", like: "EnvironmentFile=",
		eg:   `["-/etc/default/api"]`,
		says: "Files of `KEY=value` lines, read at each start; one or a list. A file with `-` in front may be missing. They override `environment`. Quotes and backslashes work as in systemd; a line that is not an assignment, or an unclosed quote, is an error.",
	},
	{
		in: "service", name: "pass_environment", is: into(variables, func(t *target) *[]string { return &t.u.Program.PassEnvironment }), def: `[]`, like: "PassEnvironment=",
		eg:   `["TZ"]`,
		says: "Names of variables to pass on from supervisord's own environment. As root nothing else is passed on; otherwise, and as PID 1, everything is except what was meant for supervisord.",
	},

	{
		in: "service", name: "restart", is: into(choice([]unit.Policy{unit.No, unit.Always, unit.OnSuccess, unit.OnFailure, unit.OnAbnormal, unit.OnAbort, unit.OnWatchdog}), func(t *target) *unit.Policy { return &t.u.Life.Restart }), def: `"on-failure"`, like: "Restart=",
		says: "After which kinds of exit it is restarted. A requested stop is not one.",
	},
	{
		in: "service", name: "restart_sec", is: into(duration, func(t *target) *time.Duration { return &t.u.Life.RestartSec }), def: `"100ms"`, like: "RestartSec=",
		says: "How long to wait before the second restart in a row. After the first crash since it was healthy, it is restarted at once. Every wait is randomised by up to a quarter.",
	},
	{
		in: "service", name: "restart_max_delay_sec", is: into(duration, func(t *target) *time.Duration { return &t.u.Life.RestartMax }), def: `"30s"`, like: "RestartMaxDelaySec=",
		says: "The longest that the wait grows to.",
	},
	{
		in: "service", name: "restart_steps", is: into(integer(0, 1000), func(t *target) *int { return &t.u.Life.RestartSteps }), def: `8`, like: "RestartSteps=",
		unit: "restarts", says: "How many restarts it takes to grow to that. 0: it does not grow.",
	},
	{
		in: "service", name: "restart_reset_sec", is: into(duration, func(t *target) *time.Duration { return &t.u.Life.ResetSec }), def: `"10s"`,
		says: "How long it must stay healthy for earlier crashes to be forgotten.",
	},
	{
		in: "service", name: "start_limit_burst", is: into(integer(0, 1_000_000), func(t *target) *int { return &t.u.Life.Burst }), def: `0`, like: "StartLimitBurst=",
		unit: "restarts", says: "How many automatic restarts are allowed per `start_limit_interval_sec` before supervisord gives up on it. 0: it never does. Restarts that an operator asks for do not count.",
	},
	{
		in: "service", name: "start_limit_interval_sec", is: into(positive, func(t *target) *time.Duration { return &t.u.Life.Interval }), def: `"10s"`, like: "StartLimitIntervalSec=",
		says: "The interval of `start_limit_burst`.",
	},
	{
		in: "service", name: "success_exit_status", is: into(kind[unit.Statuses]{name: "list of exit statuses and signals", read: readStatuses}, func(t *target) *unit.Statuses { return &t.u.Life.Success }), def: `[]`, like: "SuccessExitStatus=",
		eg:   `[143, "SIGUSR1"]`,
		says: "Exit statuses and signals that count as success, in addition to status 0 and SIGHUP, SIGINT, SIGTERM and SIGPIPE.",
	},

	{
		in: "service", name: "notify_access", is: into(choice([]unit.NotifyAccess{unit.NotifyNone, unit.NotifyMain, unit.NotifyAll}), func(t *target) *unit.NotifyAccess { return &t.u.Notify }), def: `"all"`, like: "NotifyAccess=",
		says: "Whose sd_notify messages count: nobody's, the main process's, or those of all its processes.",
	},
	{
		in: "service", name: "watchdog_sec", is: into(duration, func(t *target) *time.Duration { return &t.u.Life.Watchdog }), def: `"0s"`, like: "WatchdogSec=",
		eg:   `"10s"`,
		says: "It must send `WATCHDOG=1` at least this often, or it is killed. 0: it need not.",
	},
	{
		in: "service", name: "timeout_start_sec", eg: `"90s"`, is: into(timeout, func(t *target) *time.Duration { return &t.u.Life.Start }), like: "TimeoutStartSec=",
		when: "`\"90s\"`; `\"infinity\"` for type `oneshot`", says: "How long it may take to become ready.",
	},
	{
		in: "service", name: "timeout_stop_sec", eg: `"90s"`, is: into(timeout, func(t *target) *time.Duration { return &t.u.Life.Stop }), like: "TimeoutStopSec=",
		when: "`\"90s\"`; `\"20s\"` if supervisord is PID 1", says: "How long it may take to exit after `kill_signal`, before SIGKILL.",
	},
	{
		in: "service", name: "timeout_abort_sec", is: into(timeout, func(t *target) *time.Duration { return &t.u.Life.Abort }), like: "TimeoutAbortSec=",
		when: "`timeout_stop_sec`", says: "The same after the SIGABRT of a missed watchdog.",
	},
	{
		in: "service", name: "runtime_max_sec", is: into(timeout, func(t *target) *time.Duration { return &t.u.Life.Runtime }), def: `"infinity"`, like: "RuntimeMaxSec=",
		says: "How long it may run before it is stopped.",
	},
	{
		in: "service", name: "extend_timeout_max", is: into(timeout, func(t *target) *time.Duration { return &t.u.Life.ExtendMax }),
		when: "ten times the longer of `timeout_start_sec` and `timeout_stop_sec` that is not infinite", says: "How far it may extend one timeout, in total, with `EXTEND_TIMEOUT_USEC`.",
	},
	{
		in: "service", name: "kill_signal", is: into(signal, func(t *target) *syscall.Signal { return &t.u.Life.KillSignal }), def: `"SIGTERM"`, like: "KillSignal=",
		says: "The signal that asks it to exit: a name or a number.",
	},
	{
		in: "service", name: "kill_mode", is: into(choice([]unit.KillMode{unit.ControlGroup, unit.Mixed, unit.ProcessOnly}, "none"), func(t *target) *unit.KillMode { return &t.u.Life.KillMode }), def: `"control-group"`, like: "KillMode=",
		says: "Which processes get it: `control-group`, all of them; `mixed`, the main process, while SIGKILL goes to all; `process`, only ever the main process.",
	},

	{
		in: "service", name: "limit_nofile", is: limit(syscall.RLIMIT_NOFILE, counted), when: "supervisord's own", like: "LimitNOFILE=",
		eg: `65536`, says: "Open files. A number, `\"infinity\"`, or `\"soft:hard\"`, as for all limits.",
	},
	{in: "service", name: "limit_nproc", is: limit(rlimitNPROC, counted), when: "supervisord's own", like: "LimitNPROC=", says: "Processes and threads of its user."},
	{in: "service", name: "limit_core", is: limit(syscall.RLIMIT_CORE, inBytes), when: "0, up to infinity; as PID 1 supervisord's own", like: "LimitCORE=", unit: "bytes", says: "The size of a core dump."},
	{in: "service", name: "limit_as", is: limit(syscall.RLIMIT_AS, inBytes), when: "supervisord's own", like: "LimitAS=", unit: "bytes", says: "Address space."},
	{in: "service", name: "limit_data", is: limit(syscall.RLIMIT_DATA, inBytes), when: "supervisord's own", like: "LimitDATA=", unit: "bytes", says: "Data and heap."},
	{in: "service", name: "limit_stack", is: limit(syscall.RLIMIT_STACK, inBytes), when: "supervisord's own", like: "LimitSTACK=", unit: "bytes", says: "The stack."},
	{in: "service", name: "limit_fsize", is: limit(syscall.RLIMIT_FSIZE, inBytes), when: "supervisord's own", like: "LimitFSIZE=", unit: "bytes", says: "The size of files it writes."},
	{in: "service", name: "limit_memlock", is: limit(rlimitMEMLOCK, inBytes), when: "supervisord's own", like: "LimitMEMLOCK=", unit: "bytes", says: "Locked memory."},
	{in: "service", name: "limit_rss", is: limit(rlimitRSS, inBytes), when: "supervisord's own", like: "LimitRSS=", unit: "bytes", says: "Resident memory. Linux does not enforce it."},
	{in: "service", name: "limit_msgqueue", is: limit(rlimitMSGQUEUE, inBytes), when: "supervisord's own", like: "LimitMSGQUEUE=", unit: "bytes", says: "POSIX message queues."},
	{in: "service", name: "limit_cpu", is: limit(syscall.RLIMIT_CPU, inSeconds), when: "supervisord's own", like: "LimitCPU=", says: "Processor time, in whole seconds: a duration."},
	{in: "service", name: "limit_rttime", is: limit(rlimitRTTIME, inMicroseconds), when: "supervisord's own", like: "LimitRTTIME=", says: "Processor time without a pause under a real-time policy: a duration."},
	{in: "service", name: "limit_locks", is: limit(rlimitLOCKS, counted), when: "supervisord's own", like: "LimitLOCKS=", says: "File locks. Linux does not enforce it."},
	{in: "service", name: "limit_sigpending", is: limit(rlimitSIGPENDING, counted), when: "supervisord's own", like: "LimitSIGPENDING=", says: "Queued signals of its user."},
	{in: "service", name: "limit_nice", is: limit(rlimitNICE, counted), when: "supervisord's own", like: "LimitNICE=", says: "20 less the nice value that it may give itself: from 1 to 40."},
	{in: "service", name: "limit_rtprio", is: limit(rlimitRTPRIO, counted), when: "supervisord's own", like: "LimitRTPRIO=", says: "The real-time priority that it may give itself."},

	{
		in: "service", name: "instances", is: into(integer(1, 1000), func(t *target) *int { return &t.u.Life.Instances }), def: `1`,
		unit: "processes", says: "How many processes run side by side, numbered from 0: `{instance}` in arguments, the environment, `working_directory`, and the ports and paths of its sockets stands for the number. `superctl scale` changes how many until the configuration sets another number.",
	},
	{in: "service", name: "after", like: "After=", says: "What must be started before it."},
	{in: "service", name: "requires", like: "Requires=", says: "What must run for it to run."},
	{in: "service", name: "idle_timeout", says: "When a service that was started on demand stops again."},
	{
		in: "service", name: "handover", is: into(boolean, func(t *target) *bool { return &t.u.Hand }), def: `false`,
		says: "Let an old process pass idle connections on to the new one, so that clients do not even reconnect. The program must support it; a Go program does with `pkg/worker`.",
	},
	{in: "service", name: "supplementary_groups", like: "SupplementaryGroups=", says: "More groups that it is in."},
	{in: "service", name: "ambient_capabilities", like: "AmbientCapabilities=", says: "Capabilities that it has without being root."},
	{in: "service", name: "capability_bounding_set", like: "CapabilityBoundingSet=", says: "Capabilities that it can have at most."},
	{in: "service", name: "no_new_privileges", like: "NoNewPrivileges=", says: "Whether set-uid programs are kept from giving it more privileges."},
	{in: "service", name: "load_credential", like: "LoadCredential=", says: "Secrets that are passed as files."},
	{in: "service", name: "memory_max", like: "MemoryMax=", says: "How much memory all its processes may have."},
	{in: "service", name: "memory_high", like: "MemoryHigh=", says: "The memory use above which they are slowed down."},
	{in: "service", name: "cpu_quota", like: "CPUQuota=", says: "How much processor time they may use."},
	{in: "service", name: "cpu_weight", like: "CPUWeight=", says: "Their share of processor time when it is scarce."},
	{in: "service", name: "tasks_max", like: "TasksMax=", says: "How many processes and threads it may have."},
	{in: "service", name: "exec_start_pre", like: "ExecStartPre=", says: "Commands before it."},
	{in: "service", name: "exec_start_post", like: "ExecStartPost=", says: "Commands when it is ready."},
	{in: "service", name: "exec_stop", like: "ExecStop=", says: "Commands that stop it."},
	{in: "service", name: "exec_stop_post", like: "ExecStopPost=", says: "Commands after it."},
	{in: "service", name: "exec_reload", like: "ExecReload=", says: "Commands that make it reread its configuration."},
	{in: "service", name: "send_sigkill", like: "SendSIGKILL=", says: "Whether SIGKILL ends what does not end."},
	{in: "service", name: "final_kill_signal", like: "FinalKillSignal=", says: "The signal instead of SIGKILL."},
	{in: "service", name: "file_descriptor_store_max", like: "FileDescriptorStoreMax=", says: "How many file descriptors it may leave with supervisord."},

	{
		in: "service.reload", name: "mode", eg: `"overlap"`, is: into(choice([]string{"overlap", "restart"}, "signal", "exec"), func(t *target) *string { return &t.u.mode }),
		when: "`overlap` if it has sockets, else `restart`", says: "How `superctl reload` replaces it: `overlap` starts the new process next to the old one, and stops the old one once the new one has proved itself; `restart` stops the old one first.",
	},
	{
		in: "service.reload", name: "bake", show: true, is: into(duration, func(t *target) *time.Duration { return &t.u.Life.Bake }), def: `"1s"`,
		says: "How long a new process must stay ready before the old one is asked to exit. A process that dies before that costs nothing: the old one keeps running.",
	},
	{
		in: "service.reload", name: "max_draining", is: into(integer(1, 1000), func(t *target) *int { return &t.u.Life.MaxDraining }), def: `8`,
		unit: "processes", says: "How many old processes may still be draining when another reload begins.",
	},
	{
		in: "service.reload", name: "canary", is: into(percent, func(t *target) *int { return &t.u.Life.Canary }), def: `"0%"`,
		says: "The share of its instance's new connections that a new process gets while it bakes. For steered sockets; at a shared one the new process gets connections like the others.",
	},
	{
		in: "service.reload", name: "settle", is: into(duration, func(t *target) *time.Duration { return &t.u.Life.Settle }), def: `"1s"`,
		says: "The minimum time between the switch, from which on an old process gets no new connections, and its kill signal. It gets up to ten seconds more while clients wait in its queue, and no more time at all once it has accepted none of them for half a second. For steered sockets.",
	},
	{
		in: "service.reload", name: "max_surge", is: into(integer(1, 1000), func(t *target) *int { return &t.u.Life.Surge }), def: `1`,
		unit: "processes", says: "How many instances are replaced at a time. The first instance always tries a new build alone.",
	},
	{in: "service.reload", name: "signal", like: "ReloadSignal=", says: "The signal of mode `signal`."},
	{in: "service.reload", name: "exec", says: "The command of mode `exec`."},

	{
		in: "service.log", name: "file", is: into(boolean, func(t *target) *bool { return &t.u.Log.File }), def: `true`,
		says: "Write its output to `NAME.log` in `log_directory`.",
	},
	{
		in: "service.log", name: "max_size", is: into(sized(4<<10, 1<<50), func(t *target) *int64 { return &t.u.Log.MaxSize }), def: `"64M"`,
		unit: "bytes", says: "The size at which the file is rotated.",
	},
	{
		in: "service.log", name: "max_files", is: into(integer(0, 10_000), func(t *target) *int { return &t.u.Log.MaxFiles }), def: `5`,
		unit: "files", says: "How many rotated files are kept.",
	},
	{
		in: "service.log", name: "compress", is: into(boolean, func(t *target) *bool { return &t.u.Log.Compress }), def: `true`,
		says: "Compress rotated files with gzip.",
	},
	{
		in: "service.log", name: "forward", eg: `true`, is: into(forward, func(t *target) *forwards { return &t.u.forward }),
		when: "true as PID 1 or on a terminal", says: "Copy its lines: `true` to supervisord's own stdout, `\"journal\"` to systemd's journal, with the service's name and the priority that a line begins with (`<3>`).",
	},
	{
		in: "service.log", name: "forward_prefix", eg: `false`, is: into(boolean, func(t *target) *bool { return &t.u.prefix }),
		when: "true on a terminal, and with more than one service or instance", says: "Write the service's name and instance before each line on stdout.",
	},

	{in: "service", name: "probe", says: "A table: how to find out whether it is healthy."},
	{in: "service", name: "drain", says: "A table: what to do before the old process is asked to exit."},
}
