package config

import (
	"math"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// decoded is a text without problems, not even a warning.
func decoded(t *testing.T, o Options, text string) *Config {
	t.Helper()
	c, problems := Decode("/etc/supervisord/supervisord.toml", []byte(text), o)
	if len(problems) > 0 {
		t.Fatalf("%v", problems)
	}
	return c
}

func pointer[T any](v T) *T { return &v }

func TestDefaults(t *testing.T) {
	c := decoded(t, Options{Root: true}, `
[socket.http]
listen_stream = ["8080"]
[service.api]
exec_start = "/srv/api/api"
`)
	c.Digest = ""
	want := &Config{
		Path: "/etc/supervisord/supervisord.toml", Files: []string{"/etc/supervisord/supervisord.toml"},
		Manager: Manager{
			RuntimeDirectory: "/run/supervisord", StateDirectory: "/var/lib/supervisord",
			LogDirectory: "/var/log/supervisord", ReadGroup: "adm", LogLevel: "info",
		},
		Sockets: []*unit.Socket{{
			Name: "http", Listen: []unit.Address{{Network: "tcp", Port: 8080}}, FDName: "http", Backlog: 4096,
			Mode: 0o666, NonBlocking: true, NoDelay: true, WhenDown: unit.Refuse,
		}},
		Services: []*unit.Spec{{
			Name: "api", Boot: true, Notify: unit.NotifyAll,
			Life: unit.Life{
				Type: unit.Exec, Restart: unit.OnFailure, Instances: 1, Surge: 1, Settle: time.Second, Empty: 10 * time.Second,
				RestartSec: 100 * time.Millisecond, RestartMax: 30 * time.Second, RestartSteps: 8,
				ResetSec: 10 * time.Second, Interval: 10 * time.Second,
				Start: 90 * time.Second, Bake: time.Second, Stop: 90 * time.Second, Abort: 90 * time.Second,
				Kill: 5 * time.Second, Runtime: unit.Infinity, ExtendMax: 900 * time.Second,
				KillSignal: syscall.SIGTERM, KillMode: unit.ControlGroup, MaxDraining: 8,
			},
			Program: unit.Program{Argv: []string{"/srv/api/api"}, Path: "/srv/api/api", Dir: "/", Umask: 0o022},
			Log:     unit.Log{File: true, MaxSize: 64 << 20, MaxFiles: 5, Compress: true},
		}},
	}
	if d := cmp.Diff(want, c, cmpopts.IgnoreUnexported(Config{})); d != "" {
		t.Error(d)
	}
}

func TestEveryKeyArrives(t *testing.T) {
	c := decoded(t, Options{Root: true}, everything)
	socket := &unit.Socket{
		Name: "http", FDName: "web", Backlog: 128, Mode: 0o660, User: "1000", Group: "1001",
		Listen: []unit.Address{
			{Network: "tcp", Host: "127.0.0.1", Port: 8080},
			{Network: "tcp", Host: "::1", Port: 8080},
			{Network: "tcp", Host: "127.0.0.1"},
			{Network: "unix", Path: "/run/api.sock"},
		},
		KeepAlive: true, FreeBind: true, IPv6Only: pointer(true),
		ReceiveBuf: 256 << 10, SendBuf: 1 << 20, WhenDown: unit.Queue, Steer: true,
	}
	if d := cmp.Diff(socket, c.Sockets[0]); d != "" {
		t.Error(d)
	}
	service := &unit.Spec{
		Name: "api", Sockets: []*unit.Socket{socket}, Notify: unit.NotifyMain,
		Life: unit.Life{
			Type: unit.Notify, Restart: unit.Always, Steer: true, Instances: 1, Surge: 1, Settle: time.Second, Empty: 10 * time.Second,
			RestartSec: time.Second, RestartMax: time.Minute, RestartSteps: 4, ResetSec: time.Minute, Burst: 3, Interval: time.Hour,
			Success: unit.Statuses{Codes: []int{143, 0}, Signals: []syscall.Signal{syscall.SIGUSR1, 37}},
			Start:   5 * time.Minute, Stop: unit.Infinity, Abort: 90 * time.Second, Watchdog: 1500 * time.Millisecond,
			Runtime: 26*time.Hour + time.Minute, ExtendMax: time.Hour, Bake: 0, Kill: 5 * time.Second,
			KillSignal: syscall.SIGQUIT, KillMode: unit.Mixed, MaxDraining: 2,
		},
		Program: unit.Program{
			Argv: []string{"api", "-name", "a b", ""}, Path: "api", Search: strings.Split(fixedPath, ":"),
			Dir: "/etc/supervisord/api", User: "1000", Group: "1001", Umask: 0o077, Nice: pointer(-5), OOMScoreAdj: pointer(0),
			Limits: []unit.Limit{
				{Resource: syscall.RLIMIT_CPU, Soft: 2, Hard: 2},
				{Resource: syscall.RLIMIT_CORE, Soft: 0, Hard: math.MaxUint64},
				{Resource: syscall.RLIMIT_NOFILE, Soft: 1024, Hard: 65536},
				{Resource: rlimitMEMLOCK, Soft: 64 << 20, Hard: 64 << 20},
				{Resource: rlimitRTTIME, Soft: 200_000, Hard: 200_000},
			},
			Environment:      unit.Secrets{"B=2", "A=1=1"},
			EnvironmentFiles: []string{"-/etc/default/api", "/etc/supervisord/api.env"},
			PassEnvironment:  []string{"TZ", "LANG"},
		},
		Log: unit.Log{MaxSize: 10 << 20, MaxFiles: 3, Forward: true},
	}
	if d := cmp.Diff(service, c.Services[0]); d != "" {
		t.Error(d)
	}
	manager := Manager{"/run/x", "/var/x", "/var/x/log", "", "root", "debug", unit.Address{Network: "tcp", Host: "::1", Port: 9475}}
	if d := cmp.Diff(manager, c.Manager); d != "" {
		t.Error(d)
	}
}

const everything = `
[manager]
runtime_directory = "/run/x"
state_directory = "/var/x/"
log_directory = "/var//x/log"
read_group = ""
admin_group = "root"
log_level = "debug"
metrics_listen = "[::1]:9475"

[socket.http]
listen_stream = ["127.0.0.1:8080", "[::1]:8080", "127.0.0.1:0", "/run/api.sock"]
backlog = 128
when_down = "queue"
file_descriptor_name = "web"
socket_mode = "0660"
socket_user = "1000"
socket_group = "1001"
non_blocking = false
no_delay = false
keep_alive = true
free_bind = true
bind_ipv6_only = "ipv6-only"
receive_buffer = "256K"
send_buffer = 1048576

[service.api]
exec_start = "api -name 'a b' \"\""
type = "notify"
sockets = ["http"]
start = "manual"
working_directory = "api"
user = "1000"
group = "1001"
umask = "0077"
nice = -5
oom_score_adj = 0
environment = { B = "2", A = "1=1" }
environment_file = ["-/etc/default/api", "api.env"]
pass_environment = ["TZ", "LANG"]
restart = "always"
restart_sec = "1s"
restart_max_delay_sec = "1m"
restart_steps = 4
restart_reset_sec = "60s"
start_limit_burst = 3
start_limit_interval_sec = "1h"
success_exit_status = [143, "SIGUSR1", 0, "RTMIN+3"]
notify_access = "main"
watchdog_sec = "1.5s"
timeout_start_sec = "5min"
timeout_stop_sec = "infinity"
timeout_abort_sec = "90s"
runtime_max_sec = "1d 2h 60s"
extend_timeout_max = "1h"
kill_signal = "QUIT"
kill_mode = "mixed"
limit_nofile = "1024:65536"
limit_core = "0:infinity"
limit_memlock = "64M"
limit_cpu = "1500ms"
limit_rttime = "200ms"

[service.api.reload]
mode = "restart"
bake = "0s"
max_draining = 2

[service.api.log]
file = false
max_size = "10M"
max_files = 3
compress = false
forward = true
`

// A default may depend on other keys, and on who supervisord is.
func TestDefaultsThatDepend(t *testing.T) {
	const api = "[socket.http]\nlisten_stream = [\"8080\"]\n[service.api]\nexec_start = \"/srv/api/api\"\n"
	type is map[string]any
	for _, c := range []struct {
		what, keys string
		o          Options
		want       is
	}{
		{"a oneshot may take its time", `type = "oneshot"`, Options{}, is{"Start": unit.Infinity, "ExtendMax": 15 * time.Minute, "Overlap": false}},
		{"a oneshot with sockets does not overlap", "type = \"oneshot\"\nsockets = [\"http\"]", Options{}, is{"Overlap": false}},
		{"sockets make it overlap", "type = \"notify\"\nsockets = [\"http\"]", Options{}, is{"Overlap": true}},
		{"unless it is told not to", "type = \"notify\"\nsockets = [\"http\"]\nreload.mode = \"restart\"", Options{}, is{"Overlap": false}},
		{"without sockets it can overlap if it says so", `reload.mode = "overlap"`, Options{}, is{"Overlap": true}},
		{"a pod is given 30 s", "", Options{PID1: true}, is{"Stop": 20 * time.Second, "Abort": 20 * time.Second}},
		{"abort takes as long as stop", `timeout_stop_sec = "7s"`, Options{}, is{"Abort": 7 * time.Second}},
		{"extension by the longer timeout", "timeout_stop_sec = \"5m\"", Options{}, is{"ExtendMax": 50 * time.Minute}},
		{"no extension for ever of the other one", `timeout_stop_sec = "infinity"`, Options{}, is{"ExtendMax": 15 * time.Minute}},
		{"that saturates", `timeout_stop_sec = "100000d"`, Options{}, is{"ExtendMax": unit.Infinity}},
	} {
		life := reflect.ValueOf(decoded(t, c.o, api+c.keys+"\n").Services[0].Life)
		for field, want := range c.want {
			if got := life.FieldByName(field).Interface(); got != want {
				t.Errorf("%s: %s is %v, want %v", c.what, field, got, want)
			}
		}
	}
}

func TestOutputIsForwardedWhereSomebodySeesIt(t *testing.T) {
	const text = "[service.api]\nexec_start = \"/srv/api/api\"\n"
	for _, o := range []Options{{}, {Root: true}, {PID1: true}, {Terminal: true}} {
		if got, want := decoded(t, o, text).Services[0].Log.Forward, o.PID1 || o.Terminal; got != want {
			t.Errorf("%+v: %v", o, got)
		}
	}
	if decoded(t, Options{PID1: true}, text+"log.forward = false\n").Services[0].Log.Forward {
		t.Error("forwarded, though it was told not to")
	}
}

// With the default back-off, restart k waits 100ms, 204ms, 416ms … up to 30 s.
func TestLimitThatBackOffMakesUnreachable(t *testing.T) {
	for keys, warned := range map[string]bool{
		"start_limit_burst = 5":  false,
		"start_limit_burst = 20": true,
		"start_limit_burst = 1\nrestart_sec = \"1h\"\nrestart_max_delay_sec = \"1h\"":                               false, // the first restart is at once
		"start_limit_burst = 2\nrestart_sec = \"1h\"\nrestart_max_delay_sec = \"1h\"":                               true,
		"start_limit_burst = 20\nrestart_steps = 0":                                                                 false,
		"start_limit_burst = 20\nstart_limit_interval_sec = \"1h\"":                                                 false,
		"start_limit_burst = 1000000\nrestart_sec = \"0s\"":                                                         false,
		"start_limit_burst = 1000000\nrestart_sec = \"1us\"\nrestart_steps = 0\nstart_limit_interval_sec = \"1us\"": true,
	} {
		_, problems := Decode("x.toml", []byte("[service.api]\nexec_start = \"/srv/api/api\"\n"+keys+"\n"), Options{})
		if got := len(problems) == 1 && problems[0].Warning && strings.Contains(problems[0].Message, "never reached"); got != warned {
			t.Errorf("%q: %v", keys, problems)
		}
	}
}

func TestDiff(t *testing.T) {
	before := decoded(t, Options{}, "[socket.a]\nlisten_stream = [\"1\"]\n[socket.b]\nlisten_stream = [\"2\"]\n[service.a]\nexec_start = \"/a\"\n[service.b]\nexec_start = \"/b\"\n[service.z]\nexec_start = \"/z\"\n")
	after := decoded(t, Options{}, "[manager]\nlog_level = \"warn\"\n[socket.b]\nlisten_stream = [\"3\"]\n[service.z]\nexec_start = \"/z\"\nenvironment.A = \"1\"\n[service.a]\nexec_start = \"/a\"\n[service.c]\nexec_start = \"/c\"\n")
	want := Changes{Added: []string{"c"}, Removed: []string{"a.socket", "b"}, Changed: []string{"b.socket", "z"}, Manager: true}
	if d := cmp.Diff(want, Diff(before, after)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(Changes{}, Diff(before, before)); d != "" {
		t.Error(d)
	}
}

// A service is given its sockets when it starts, so it must be started anew for
// what is new about them: both are changed, and nobody else is.
func TestDiffNamesTheServicesOfAChangedSocket(t *testing.T) {
	const text = `
[socket.a]
listen_stream = ["1"]
[socket.b]
listen_stream = ["2"]
[service.one]
exec_start = "/one"
type = "notify"
sockets = ["a"]
[service.both]
exec_start = "/both"
type = "notify"
sockets = ["b", "a"]
[service.other]
exec_start = "/other"
type = "notify"
sockets = ["b"]
`
	before := decoded(t, Options{}, text)
	for from, to := range map[string]string{
		`listen_stream = ["1"]`: `listen_stream = ["3"]`,
		"[socket.a]":            "[socket.a]\nbacklog = 5",
	} {
		after := decoded(t, Options{}, strings.Replace(text, from, to, 1))
		want := Changes{Changed: []string{"a.socket", "both", "one"}}
		if d := cmp.Diff(want, Diff(before, after)); d != "" {
			t.Errorf("%s: %s", to, d)
		}
	}
}

func TestSteeredInstances(t *testing.T) {
	c := decoded(t, Options{Root: true}, `
[socket.http]
listen_stream = ["127.0.0.1:8080"]
steer = "connections"
[socket.admin]
listen_stream = ["127.0.0.1:90{instance}0", "/run/admin-{instance}.sock"]
[service.api]
exec_start = ["/srv/api/api", "-name", "api-{instance}"]
sockets = ["http", "admin"]
type = "notify"
instances = 3
handover = true
[service.api.reload]
canary = "5%"
settle = "50ms"
max_surge = 2
max_draining = 4
`)
	http, admin, api := c.Sockets[1], c.Sockets[0], c.Services[0]
	if !http.Steer || http.Unsteered != "" || http.PerInstance() {
		t.Errorf("%+v", http)
	}
	of2, err := admin.Of(2)
	if want := []unit.Address{{Network: "tcp", Host: "127.0.0.1", Port: 9020}, {Network: "unix", Path: "/run/admin-2.sock"}}; err != nil || !cmp.Equal(of2.Listen, want) {
		t.Errorf("%+v, %v", of2, err)
	}
	if l := api.Life; !api.Hand || !l.Steer || l.Instances != 3 || l.Surge != 2 || l.Canary != 5 || l.Settle != 50*time.Millisecond {
		t.Errorf("%+v", api)
	}
	if p := api.Program.Of(1); p.Argv[2] != "api-1" || api.Program.Argv[2] != "api-{instance}" {
		t.Errorf("%q", p.Argv)
	}
}
