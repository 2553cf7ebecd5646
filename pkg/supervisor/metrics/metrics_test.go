package metrics

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

//go:generate go test -count=1 -run Generated . -update

var update = flag.Bool("update", false, "write the files that are generated")

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s is not what the code says (-update writes it): %s", path, d)
	}
}

func TestGeneratedReference(t *testing.T) {
	var b bytes.Buffer
	if err := WriteReference(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "../../../docs/reference/metrics.md", b.Bytes())
}

// example is a supervisord in the middle of things: a canary, a crash loop, a
// socket that somebody else has.
func example() Snapshot {
	at := time.Date(2026, 11, 24, 16, 0, 0, 250e6, time.UTC)
	api, mail := NewCounters(), NewCounters()
	api.Job(unit.Start, unit.Done)
	api.Job(unit.Reload, unit.Done)
	api.Job(unit.Reload, unit.Done)
	api.Job(unit.Reload, unit.Failed)
	api.Exit(unit.Success)
	api.Exit(unit.ExitCode)
	api.Reload([]ipc.SocketAccount{{Drops: 1}, {Drops: 10}})
	api.Reload([]ipc.SocketAccount{{}})
	mail.Restart()
	mail.Exit(unit.CoreDump)
	return Snapshot{
		Info:    ipc.Info{Version: "v1.2.3", Since: at},
		Counted: map[string]*Counters{"api": api, "mail": mail},
		Status: ipc.Status{
			Degraded: []string{"something"},
			Services: []ipc.UnitStatus{
				{
					Name: "api", ActiveState: "reloading", Generation: 7, Ready: 2, Want: 2, Memory: 41 << 20, Since: &at, FileDiffers: true,
					Processes: []ipc.Process{
						{Role: "main", Share: 45}, {Role: "main", Share: 45}, {Role: "next", Share: 10}, {Role: "old"},
					},
				},
				{Name: "mail", ActiveState: "activating", Want: 1},
			},
			Sockets: []ipc.SocketUnit{
				{
					Name: "http", Unsteered: "steering needs CAP_BPF",
					Sockets: []ipc.Socket{
						{Address: "127.0.0.1:8080", Listening: true, Queue: 3, Limit: 4096, Drops: 17},
						{Address: "/run/api.sock", Listening: true, Queue: -1, Limit: -1},
					},
				},
				{Name: "smtp", Sockets: []ipc.Socket{{Queue: -1, Limit: -1, Error: "cannot bind"}}},
			},
		},
	}
}

// write is a scrape up to what depends on this process.
func write(t *testing.T, s Snapshot) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, &s); err != nil {
		t.Fatal(err)
	}
	text, _, ok := strings.Cut(b.String(), "# HELP process_cpu")
	if !ok {
		t.Fatal("it says nothing of the process")
	}
	return text
}

func TestScrape(t *testing.T) { golden(t, "testdata/scrape.txt", []byte(write(t, example()))) }

// A unit that is gone takes its series with it, and one that has just come has
// the series that alerts wait for.
func TestUnitsComeAndGo(t *testing.T) {
	s := example()
	s.Status.Services = s.Status.Services[:1]
	delete(s.Counted, "mail")
	if text := write(t, s); strings.Contains(text, "mail") {
		t.Errorf("mail is still there:\n%s", text)
	}
	fresh := write(t, Snapshot{Counted: map[string]*Counters{"new": NewCounters()}})
	for _, series := range []string{
		`supervisord_jobs_total{unit="new",verb="reload",result="failed"} 0`, `supervisord_reload_drops_total{unit="new"} 0`, `supervisord_unit_restarts_total{unit="new"} 0`,
	} {
		if !strings.Contains(fresh, series+"\n") {
			t.Errorf("%s is missing in:\n%s", series, fresh)
		}
	}
}

// Two sockets with one address would void the whole scrape, and are nobody's
// reason to know nothing.
func TestNoSeriesTwice(t *testing.T) {
	s := example()
	s.Status.Sockets = append(s.Status.Sockets, s.Status.Sockets...)
	s.Status.Services = append(s.Status.Services, s.Status.Services...)
	lint(t, write(t, s))
}

// Whatever a path has in it, a scrape can be read.
func TestHostileLabels(t *testing.T) {
	const hostile = "/run/\"} 1\n# TYPE x gauge\nx 1\\\xff\x00\u2028{"
	s := example()
	s.Status.Sockets[0].Sockets[0].Address = hostile
	samples := lint(t, write(t, s))
	want := strings.ToValidUTF8(hostile, "\uFFFD")
	if !slices.ContainsFunc(samples, func(x sample) bool { return x.labels["address"] == want }) {
		t.Errorf("the address is not among %v", samples)
	}
}

func TestLint(t *testing.T) {
	var b bytes.Buffer
	s := example()
	if err := Write(&b, &s); err != nil {
		t.Fatal(err)
	}
	lint(t, b.String())
}

// The parser is not blind: each of these is wrong.
func TestLintFinds(t *testing.T) {
	for _, text := range []string{
		"x 1\n",
		"# HELP x y\nx 1\n",
		"# HELP x y\n# TYPE x gauge\nx 1\nx 1\n",
		"# HELP x y\n# TYPE x gauge\n# HELP x y\n# TYPE x gauge\nx 1\n",
		"# HELP x y\n# TYPE x counter\nx 1\n",
		"# HELP x_total y\n# TYPE x_total gauge\nx_total 1\n",
		"# HELP x y\n# TYPE x gauge\nx{a=\"b} 1\n",
		"# HELP x y\n# TYPE x gauge\nx one\n",
		"# HELP x \n# TYPE x gauge\nx 1\n",
		"# HELP x y\n# TYPE x gauge\nx 1",
	} {
		if _, faults := parse(text); len(faults) == 0 {
			t.Errorf("nothing is found in %q", text)
		}
	}
}

// A sample is a line of a scrape.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// lint wants nothing to complain of.
func lint(t *testing.T, text string) []sample {
	t.Helper()
	samples, faults := parse(text)
	for _, f := range faults {
		t.Error(f)
	}
	return samples
}

// parse reads a scrape as Prometheus does, and finds what promtool complains of.
func parse(text string) (samples []sample, faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		fault("%v", err)
	}
	seen := map[string]bool{}
	for name, f := range families {
		counts := f.GetType() == dto.MetricType_COUNTER
		switch {
		case f.GetHelp() == "":
			fault("%s has no HELP", name)
		case !counts && f.GetType() != dto.MetricType_GAUGE:
			fault("%s is a %s", name, f.GetType())
		case counts != strings.HasSuffix(name, "_total"):
			fault("%s is a %s by its type, and not by its name", name, f.GetType())
		case len(f.Metric) == 0:
			fault("%s has no series", name)
		}
		for _, m := range f.Metric {
			x := sampleOf(name, m)
			if series := name + fmt.Sprint(x.labels); seen[series] {
				fault("%s is there twice", series)
			} else {
				seen[series] = true
			}
			samples = append(samples, x)
		}
	}
	return samples, faults
}

func sampleOf(name string, m *dto.Metric) sample {
	x := sample{name, map[string]string{}, m.GetGauge().GetValue() + m.GetCounter().GetValue()}
	for _, l := range m.Label {
		x.labels[l.GetName()] = l.GetValue()
	}
	return x
}

// promtool has a last word: it knows the conventions.
func TestPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("needs promtool, of Debian's package prometheus")
	}
	check := exec.Command(promtool, "check", "metrics")
	check.Stdin = strings.NewReader(write(t, example()))
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for _, args := range [][]string{{"check", "rules", "supervisord.rules.yml"}, {"test", "rules", "supervisord.test.yml"}} {
		c := exec.Command(promtool, args...)
		c.Dir = "../../../etc/prometheus"
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%q: %v: %s", args, err, out)
		}
	}
}

// Alerts are about series that there are.
func TestAlertsNameSeriesThatThereAre(t *testing.T) {
	text, err := os.ReadFile("../../../etc/prometheus/supervisord.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`supervisord_[a-z_]+`).FindAllString(string(text), -1)
	if len(names) < 10 {
		t.Errorf("there are only %d series in the rules", len(names))
	}
	for _, name := range names {
		if !slices.ContainsFunc(families, func(f family) bool { return f.name == name }) {
			t.Errorf("the rules ask for %s, which is not told", name)
		}
	}
}

func TestNamesFollowTheConventions(t *testing.T) {
	own := regexp.MustCompile(`^(supervisord|process)_[a-z_]+$`)
	names := map[string]bool{}
	for _, f := range families {
		if !own.MatchString(f.name) || names[f.name] {
			t.Errorf("%s is no good name, or is there twice", f.name)
		}
		names[f.name] = true
		if (f.kind == counter) != strings.HasSuffix(f.name, "_total") {
			t.Errorf("%s is a %s", f.name, f.kind)
		}
		if !strings.HasSuffix(f.help, ".") || strings.ContainsAny(f.help, "\n|") {
			t.Errorf("the help of %s: %q", f.name, f.help)
		}
		for _, label := range f.labels { // Prometheus gives each target these itself
			if label == "job" || label == "instance" {
				t.Errorf("%s has the label %s", f.name, label)
			}
		}
	}
}

// A canary is put in every string that a Snapshot has, also in those that will be
// added to it. Only these may be seen.
var mayBeSeen = []string{
	"Info.Version", "Status.Services.Name", "Status.Sockets.Name", "Status.Sockets.Sockets.Address",
}

func TestNothingElseIsSeen(t *testing.T) {
	var s Snapshot
	fill(reflect.ValueOf(&s).Elem(), "")
	s.Counted = example().Counted
	text := write(t, s)
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`canary:([A-Za-z.]+);`).FindAllStringSubmatch(text, -1) {
		seen[m[1]] = true
		if !slices.Contains(mayBeSeen, m[1]) {
			t.Errorf("%s is told", m[1])
		}
	}
	for _, path := range mayBeSeen {
		if !seen[path] {
			t.Errorf("%s is not told: the canaries do not reach it", path)
		}
	}
}

// fill puts canaries into all strings of v, and one element into all lists.
func fill(v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("canary:" + strings.TrimPrefix(path, ".") + ";")
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), path+"."+v.Type().Field(i).Name)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), path)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), path)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Bool:
		v.SetBool(true)
	}
}

// How much a scrape of a thousand services costs.
func BenchmarkWrite(b *testing.B) {
	s := Snapshot{Counted: map[string]*Counters{}}
	for i := range 1000 {
		u := example().Status.Services[0]
		u.Name = fmt.Sprintf("api%d", i)
		s.Status.Services = append(s.Status.Services, u)
		s.Counted[u.Name] = example().Counted["api"]
	}
	for b.Loop() {
		Write(io.Discard, &s)
	}
}
