package supervisor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/history"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// What a record of a job has room for, so that it has less than 64 KiB however
// its texts are escaped.
const (
	maxAccounts = 32 // of sockets
	maxTexts    = 4  // notes, and as many hints
)

// remember adds a record to the history. It does not wait.
func (m *Manager) remember(r ipc.Record) {
	text, err := ipc.Encode(r)
	if err != nil {
		m.log.Error().Str("unit", r.Unit).Msg("cannot keep the history: " + err.Error())
		return
	}
	m.history.Add(text)
}

// record is what the history says of a job that has ended.
func (j job) record() ipc.Record {
	return ipc.Record{
		Kind: ipc.RecordJob, Time: *j.Ended, Unit: j.Unit, Generation: j.Generation, Seconds: seconds(j.Ended.Sub(j.Asked)),
		Job: j.ID, Verb: j.Verb, State: j.State, From: j.From, Asked: &j.Asked, UID: j.by,
		Error: lasting(j.Error), Sockets: worst(j.Sockets),
	}
}

// lasting is e without what is only of use at once: the output, which is the
// logs' to keep.
func lasting(e *ipc.Error) *ipc.Error {
	if e == nil {
		return nil
	}
	return &ipc.Error{Code: e.Code, Message: history.Cut(e.Message), Notes: cutAll(e.Notes), Hints: cutAll(e.Hints)}
}

// cutAll is as much of texts as a record has room for.
func cutAll(texts []string) (short []string) {
	for _, t := range texts[:min(len(texts), maxTexts)] {
		short = append(short, history.Cut(t))
	}
	return short
}

// worst are the accounts of the sockets that lost most, if there are too many.
func worst(all []ipc.SocketAccount) []ipc.SocketAccount {
	if len(all) <= maxAccounts {
		return all
	}
	lost := func(a ipc.SocketAccount) uint64 { return a.Drops + a.Retried + a.Lost }
	all = slices.SortedStableFunc(slices.Values(all), func(a, b ipc.SocketAccount) int { return cmp.Compare(lost(b), lost(a)) })
	return all[:maxAccounts]
}

// exited remembers that a process has ended, unless it was told to, or has done
// all that it was started for.
func (m *Manager) exited(c unit.Change, before unit.Service, v *view) {
	p := before.Find(c.Proc.ID)
	done := v.life(p).Type == unit.Oneshot && c.Inst < len(v.state.Inst) && v.state.Inst[c.Inst].Done
	if p.PID == 0 || p.Exit.Kind != unit.NotExited || p.Phase >= unit.Asked || done {
		return
	}
	m.remember(ipc.Record{
		Kind: ipc.RecordExit, Time: time.Now(), Unit: v.name, Generation: uint32(p.Gen), Seconds: seconds(time.Duration(v.at - v.runs[p.ID].began)),
		Instance: c.Inst, PID: p.PID, Text: Ended(c.Proc.Exit),
	})
}

// seconds is d to the millisecond.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// History is what happened, over restarts of supervisord. See [ipc.Supervisor].
func (m *Manager) History(r ipc.HistoryRequest) (ipc.History, error) {
	strange := map[string]bool{} // units of which nobody has heard yet
	for _, name := range r.Units {
		if m.service(name) == nil {
			strange[name] = true
		}
	}
	h := ipc.History{Records: []ipc.Record{}}
	damaged, err := m.history.Backwards(func(text []byte) bool {
		x, ok := understood(text)
		if ok && len(h.Records) < r.N && (x.Kind == ipc.RecordLost || len(r.Units) == 0 || slices.Contains(r.Units, x.Unit)) {
			h.Records = append(h.Records, x)
		}
		delete(strange, x.Unit)
		return len(h.Records) < r.N || len(strange) > 0
	})
	if err != nil {
		return ipc.History{}, &ipc.Error{Code: ipc.Internal, Message: err.Error()}
	}
	for _, name := range r.Units {
		if strange[name] {
			return ipc.History{}, m.noSuchUnit("show the history of", name)
		}
	}
	slices.Reverse(h.Records)
	if damaged > 0 {
		h.Notes = append(h.Notes, fmt.Sprintf("lines of the history that are damaged, and left out: %d", damaged))
	}
	return h, nil
}

// understood reads a record. Those that another version has written otherwise are
// left to it.
func understood(text []byte) (ipc.Record, bool) {
	var x ipc.Record
	err := json.Unmarshal(text, &x)
	return x, err == nil && slices.Contains([]string{ipc.RecordJob, ipc.RecordExit, ipc.RecordLost}, x.Kind)
}
