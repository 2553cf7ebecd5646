package ledger

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
)

// TestMain lets the test's own program be a process that is killed while it has
// connections open.
func TestMain(m *testing.M) {
	path := os.Getenv("LEDGER_TEST_KILLED")
	if path == "" {
		os.Exit(m.Run())
	}
	g, err := Gauge(path)
	if err != nil {
		os.Exit(1)
	}
	g.Of("http").Add(3)
	g.Of("http").Add(-1)
	g.Of("tcp").Add(7)
	os.Stdout.WriteString("open\n")
	os.Stdin.Read(make([]byte, 1)) // until it is killed, or the test ends
}

// What a process had open when it was killed is known, although it said nothing.
func TestGaugesOutliveAProcessThatIsKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	killed := exec.Command(os.Args[0])
	killed.Env = append(os.Environ(), "LEDGER_TEST_KILLED="+path)
	stdin, _ := killed.StdinPipe()
	defer stdin.Close()
	out, _ := killed.StdoutPipe()
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 8)); n == 0 {
		t.Fatal(err)
	}
	killed.Process.Kill()
	killed.Wait()
	pid := killed.Process.Pid
	got, err := Ended(path, []Entry{{PID: pid, Build: "stock", Event: Began}, {PID: pid, Build: "stock", Event: Ready}})
	if err != nil || len(got) != 3 {
		t.Fatalf("%v, %v", got, err)
	}
	want := Entry{PID: pid, Build: "stock", Event: Died, Open: map[string]int64{"http": 2, "tcp": 7}}
	if !reflect.DeepEqual(got[2], want) {
		t.Errorf("got %+v, want %+v", got[2], want)
	}
}

// Of those who have said how they ended, and of those who never accepted anything,
// there is nothing to add.
func TestNothingIsAddedOfThoseWhoSpoke(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	if _, err := Gauge(path); err != nil {
		t.Fatal(err)
	}
	self := os.Getpid()
	for _, entries := range [][]Entry{
		{{PID: self, Event: Began}, {PID: self, Event: Left}},
		{{PID: self, Event: Began}, {PID: self, Event: Died}},
		{{PID: self + 1, Event: Began}}, // has no gauges
	} {
		if got, err := Ended(path, entries); err != nil || len(got) != len(entries) {
			t.Errorf("%v became %v, %v", entries, got, err)
		}
	}
	if err := os.Truncate(path+"."+strconv.Itoa(self), 0); err != nil {
		t.Fatal(err)
	}
	if got, err := Ended(path, []Entry{{PID: self, Event: Began}}); err != nil || len(got) != 1 {
		t.Errorf("gauges that never had their size: %v, %v", got, err)
	}
}
