package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const metered = `metrics_listen = "127.0.0.1:0"
[socket.http]
listen_stream = ["127.0.0.1:0"]
[service.api]
exec_start = ["/bin/sh", "-c", ": canary-argument; exec sleep 1000"]
environment = { SECRET = "canary-environment" }
sockets = ["http"]
[service.api.reload]
bake = "300ms"
`

// servedAt is where metrics are, by what it says of itself.
func (r *running) servedAt() string {
	r.Helper()
	var line struct{ Address string }
	text := r.line("metrics are served", "address")
	if err := json.Unmarshal([]byte(text), &line); err != nil {
		r.Fatalf("%v in %s", err, text)
	}
	return line.Address
}

// scrape gets all metrics.
func (r *running) scrape(at string) string {
	r.Helper()
	a, err := http.Get("http://" + at + "/metrics")
	if err != nil {
		r.Fatal(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != http.StatusOK {
		r.Fatalf("%s, %v: %s", a.Status, err, text)
	}
	return string(text)
}

// value of a series.
func (r *running) value(text, series string) float64 {
	r.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				r.Errorf("%s: %v", series, err)
			}
			return v
		}
	}
	r.Errorf("%s is not among:\n%s", series, text)
	return -1
}

func TestMetrics(t *testing.T) {
	r := at(t, metered)
	r.start()
	r.ctl(0, "start", "api")
	at := r.servedAt()
	before := r.scrape(at)
	r.ctl(0, "reload", "api")
	r.write(strings.Replace(metered, "exec sleep 1000", "exit 7", 1))
	r.ctl(0, "daemon-reload")
	r.ctl(1, "reload", "api")
	after := r.scrape(at)
	for series, more := range map[string]float64{
		`supervisord_jobs_total{unit="api",verb="reload",result="done"}`:   1,
		`supervisord_jobs_total{unit="api",verb="reload",result="failed"}`: 1,
		`supervisord_unit_generation{unit="api"}`:                          1,
		`supervisord_unit_processes{unit="api",role="main"}`:               0,
		`supervisord_unit_state{unit="api",state="active"}`:                0,
		`supervisord_reload_drops_total{unit="api"}`:                       0,
		`supervisord_socket_faults{unit="http.socket"}`:                    0,
	} {
		if was, is := r.value(before, series), r.value(after, series); is-was != more {
			t.Errorf("%s went from %g to %g; want %g more", series, was, is, more)
		}
	}
	r.value(after, `supervisord_unit_exits_total{unit="api",result="exit-code"}`)
	if !regexp.MustCompile(`supervisord_socket_queue_limit\{unit="http.socket",address="127.0.0.1:\d+"\} \d+\n`).MatchString(after) {
		t.Errorf("the socket has no queue in:\n%s", after)
	}
	for _, text := range []string{"canary", "/bin/sh", "sleep", r.dir} {
		if strings.Contains(after, text) {
			t.Errorf("%q is told in:\n%s", text, after)
		}
	}
	r.stop()
	if _, err := net.Dial("tcp", at); err == nil {
		t.Error("somebody still has its socket")
	}
}

// A worker gets its own sockets and no other.
func TestMetricsAreNotPassedOn(t *testing.T) {
	r := at(t, metered)
	r.start()
	r.ctl(0, "restart", "api")
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.pid("api")))
	if err != nil {
		t.Fatal(err)
	}
	sockets := 0
	for _, fd := range fds {
		if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", r.pid("api"), fd.Name())); strings.HasPrefix(to, "socket:") {
			sockets++
		}
	}
	if sockets != 1 {
		t.Errorf("it has %d sockets, want the one of [socket.http]", sockets)
	}
	r.stop()
}

// An address that somebody else has costs the metrics, says who has it, and is
// tried again.
func TestMetricsAtAPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	configuration := fmt.Sprintf("metrics_listen = %q\n", l.Addr()) + sleeper
	r := at(t, configuration)
	r.start()
	const fault = "cannot serve metrics: cannot bind"
	who := fmt.Sprintf("by pid %d", os.Getpid())
	r.has(r.line(fault, who), "hint")
	r.ctl(0, "start", "api")
	r.has(r.ctl(0, "status"), fault, who, "to try again: superctl --socket "+r.Socket+" daemon-reload")
	r.has(r.ctl(0, "daemon-reload"), fault)
	l.Close()
	r.ctl(0, "daemon-reload")
	at := r.servedAt()
	if at != l.Addr().String() {
		t.Errorf("served at %s, want %s", at, l.Addr())
	}
	if text := r.ctl(0, "status"); strings.Contains(text, fault) {
		t.Errorf("the fault is still there:\n%s", text)
	}
	if n := r.value(r.scrape(at), "supervisord_degraded"); n != 0 {
		t.Errorf("%g things do not work", n)
	}
	r.write("metrics_listen = \"127.0.0.1:0\"\n" + sleeper)
	r.ctl(0, "daemon-reload")
	r.scrape(r.servedAt())
	r.write(sleeper)
	r.ctl(0, "daemon-reload")
	r.line("metrics are not served any more")
	r.stop()
}

// A service that the files no longer name takes its series with it.
func TestMetricsOfARemovedService(t *testing.T) {
	r := at(t, metered+"[service.more]\nexec_start = [\"/bin/sleep\", \"1000\"]\n")
	r.start()
	at := r.servedAt()
	r.ctl(0, "start", "more")
	r.has(r.scrape(at), `unit="more"`)
	r.write(metered)
	r.ctl(0, "daemon-reload")
	r.ctl(0, "stop", "more")
	r.line(`"unit":"more"`, "forgotten")
	if text := r.scrape(at); strings.Contains(text, `"more"`) {
		t.Errorf("it is still there:\n%s", text)
	}
	r.stop()
}
