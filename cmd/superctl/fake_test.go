package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// fake is a supervisor that answers from files in a directory, so that a script
// reads as what supervisord knows, what is typed, and what is seen:
//
//	status.json         an ipc.Status, of which it gives what is named
//	VERB-UNIT.json      a play: what a job of the unit comes to
//	logs.json           ipc.LogLines, one a line
//	history.json        an ipc.History
//	daemon-reload.json  an ipc.Reloaded, or an error
//	kill.json           an error, if there is one
//	try-UNIT.json       an ipc.Tried, or an error
type fake struct {
	dir string

	mu       sync.Mutex
	jobs     []ipc.JobRequest
	died     map[string]bool // where it did, see play
	followed chan string     // the id of each job whose events are asked for
}

// A play is what a job comes to.
type play struct {
	Refused *ipc.Error  // at once
	Events  []ipc.Event // in order
	Hold    bool        // and then nothing more happens
	Job     ipc.Job     // at the end; what is not said is as asked
	Dies    string      // where supervisord dies, once: "asked", when it has begun the job and not said so; or after the event of that kind
}

// dies breaks the connection off, if this is where, and the first time.
func (f *fake) dies(p play, where string) {
	f.mu.Lock()
	first := p.Dies == where && !f.died[where]
	f.died[where] = true
	f.mu.Unlock()
	if first {
		panic(http.ErrAbortHandler)
	}
}

const fakeEpoch = "5f3a9c02"

func newFake(dir string) *fake {
	return &fake{dir: dir, followed: make(chan string, 100), died: map[string]bool{}}
}

// read fills v from a file. That there is no such file is no error.
func (f *fake) read(name string, v any) error {
	text, err := os.ReadFile(filepath.Join(f.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// failure is the error that a file holds, if it is one.
func (f *fake) failure(name string) error {
	var x struct{ Error *ipc.Error }
	if err := f.read(name, &x); err != nil {
		return err
	}
	if x.Error == nil {
		return nil
	}
	return x.Error
}

func (f *fake) Info() ipc.Info {
	return ipc.Info{Version: "v1.2.3", API: 1, PID: 4711, Epoch: fakeEpoch}
}

func (f *fake) Status(names []string) (ipc.Status, error) {
	var all ipc.Status
	if err := f.read("status.json", &all); err != nil {
		return all, err
	}
	if len(names) == 0 {
		return all, nil
	}
	st := ipc.Status{Time: all.Time, Notes: all.Notes, Degraded: all.Degraded}
	for _, name := range names {
		if err := pick(&st, all, name); err != nil {
			return st, err
		}
	}
	return st, nil
}

// pick adds a unit, and the sockets of a service, to st.
func pick(st *ipc.Status, all ipc.Status, name string) error {
	found := false
	var needs []string
	for _, u := range all.Services {
		if u.Name == name {
			st.Services = append(st.Services, u)
			found, needs = true, u.Sockets
		}
	}
	for _, x := range all.Sockets {
		if x.Name+".socket" != name && !slices.Contains(needs, x.Name) {
			continue
		}
		found = true
		if !slices.ContainsFunc(st.Sockets, func(y ipc.SocketUnit) bool { return y.Name == x.Name }) {
			st.Sockets = append(st.Sockets, x)
		}
	}
	if !found {
		return noSuchUnit(name)
	}
	return nil
}

func noSuchUnit(name string) error {
	return &ipc.Error{Code: ipc.NoSuchUnit, Message: "cannot show " + name + ": no such service", Hints: []string{"to list all units: superctl status"}}
}

// asked is when every job was asked for; plays' events have times after it.
var asked = mustTime("2026-11-24T10:00:00Z")

func (f *fake) Submit(r ipc.JobRequest, _ ipc.Caller) (ipc.Job, error) {
	p, err := f.play(r)
	switch {
	case err != nil:
		return ipc.Job{}, err
	case p.Refused != nil:
		return ipc.Job{}, p.Refused
	}
	j := f.begin(r)
	f.dies(p, "asked")
	return j, nil
}

// begin begins a job, or finds the one that the request got before.
func (f *fake) begin(r ipc.JobRequest) ipc.Job {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := slices.IndexFunc(f.jobs, func(old ipc.JobRequest) bool { return old.RequestID == r.RequestID })
	if n < 0 {
		f.jobs, n = append(f.jobs, r), len(f.jobs)
	}
	return f.job(n+1, r)
}

func (f *fake) play(r ipc.JobRequest) (p play, err error) {
	return p, f.read(r.Verb+"-"+r.Unit+".json", &p)
}

func (f *fake) job(n int, r ipc.JobRequest) ipc.Job {
	return ipc.Job{ID: strconv.Itoa(n), Unit: r.Unit, Verb: r.Verb, State: ipc.JobRunning, Asked: asked}
}

func (f *fake) find(id string) (int, ipc.JobRequest, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := strconv.Atoi(id)
	if err != nil || n < 1 || n > len(f.jobs) {
		return 0, ipc.JobRequest{}, &ipc.Error{Code: ipc.NoSuchJob, Message: "there is no job " + id}
	}
	return n, f.jobs[n-1], nil
}

// Job is asked for when the events are over.
func (f *fake) Job(id string) (ipc.Job, error) {
	n, r, err := f.find(id)
	if err != nil {
		return ipc.Job{}, err
	}
	p, err := f.play(r)
	j := f.job(n, r)
	j.State = ipc.JobDone
	if p.Job.State != "" {
		j.State = p.Job.State
	}
	j.Generation, j.From, j.Error = p.Job.Generation, p.Job.From, p.Job.Error
	j.Notes, j.Hints, j.Sockets = p.Job.Notes, p.Job.Hints, p.Job.Sockets
	return j, err
}

func (f *fake) JobEvents(ctx context.Context, id string, since uint64, _ bool) (iter.Seq[ipc.Event], error) {
	_, r, err := f.find(id)
	if err != nil {
		return nil, err
	}
	p, err := f.play(r)
	if err != nil {
		return nil, err
	}
	f.followed <- id
	return func(yield func(ipc.Event) bool) {
		for i, e := range p.Events {
			e.Seq, e.Unit, e.Jobs = uint64(i+1), r.Unit, []string{id}
			if e.Type == "" {
				e.Type = "event"
			}
			if e.Seq > since && !yield(e) {
				return
			}
			f.dies(p, string(e.Kind))
		}
		if p.Hold {
			<-ctx.Done()
		}
	}, nil
}

func (f *fake) Events(context.Context, uint64) iter.Seq[ipc.Event] {
	return slices.Values([]ipc.Event(nil))
}

func (f *fake) Kill(ipc.KillRequest, ipc.Caller) error { return f.failure("kill.json") }

func (f *fake) Try(r ipc.TryRequest, _ ipc.Caller) (t ipc.Tried, err error) {
	name := "try-" + r.Unit + ".json"
	if err := f.failure(name); err != nil {
		return t, err
	}
	if err := f.read(name, &t); err != nil {
		return t, err
	}
	t.Headers = append(t.Headers, fmt.Sprintf("Asked: %s %q %s", cmp.Or(r.Whom, "any"), r.Address, r.Path))
	if r.Instance != nil {
		t.Instance = *r.Instance
	}
	return t, nil
}

func (f *fake) ResetFailed(r ipc.UnitRequest, _ ipc.Caller) error {
	_, err := f.Status([]string{r.Unit})
	return err
}

func (f *fake) DaemonReload(ipc.Caller) (r ipc.Reloaded, err error) {
	if err := f.failure("daemon-reload.json"); err != nil {
		return r, err
	}
	return r, f.read("daemon-reload.json", &r)
}

func (f *fake) History(r ipc.HistoryRequest) (h ipc.History, err error) {
	if err := f.read("history.json", &h); err != nil {
		return h, err
	}
	for _, name := range r.Units {
		if !slices.ContainsFunc(h.Records, func(x ipc.Record) bool { return x.Unit == name }) {
			return h, noSuchUnit(name)
		}
	}
	h.Records = slices.DeleteFunc(h.Records, func(x ipc.Record) bool { return len(r.Units) > 0 && !slices.Contains(r.Units, x.Unit) })
	h.Records = h.Records[max(0, len(h.Records)-r.N):]
	return h, nil
}

func (f *fake) Logs(ctx context.Context, r ipc.LogRequest) (iter.Seq[ipc.LogLine], error) {
	text, err := os.ReadFile(filepath.Join(f.dir, "logs.json"))
	if err != nil {
		return nil, err
	}
	var lines []ipc.LogLine
	for line := range strings.Lines(string(text)) {
		var l ipc.LogLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			return nil, err
		}
		late := l.Time == nil || !l.Time.Before(r.Since) && (r.Until.IsZero() || !l.Time.After(r.Until))
		if late && (len(r.Units) == 0 || slices.Contains(r.Units, l.Unit)) && (r.Generation == 0 || l.Generation == r.Generation) {
			lines = append(lines, l)
		}
	}
	none := f.none(r, lines)
	return slices.Values(append(lines[max(0, len(lines)-r.N):], none...)), nil
}

// none says of what there is no line, as supervisord does.
func (f *fake) none(r ipc.LogRequest, lines []ipc.LogLine) (none []ipc.LogLine) {
	if len(r.Units) == 0 && len(lines) == 0 {
		return []ipc.LogLine{{Type: ipc.LineNone}}
	}
	for _, name := range r.Units {
		if !slices.ContainsFunc(lines, func(l ipc.LogLine) bool { return l.Unit == name }) {
			none = append(none, ipc.LogLine{Type: ipc.LineNone, Unit: name})
		}
	}
	return none
}
