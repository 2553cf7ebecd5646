package ledger

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/history"
	"github.com/supervisord-go/supervisord/pkg/supervisor/service"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
	"github.com/supervisord-go/supervisord/pkg/supervisor/words"
)

// What a record of a job has room for, so that it has less than 64 KiB however
// its texts are escaped.
const (
	maxAccounts = 32 // of sockets
	maxTexts    = 4  // notes, and as many hints
)

// record is what the history says of a job that has ended.
func (j job) record() ipc.Record {
	return ipc.Record{
		Kind: ipc.RecordJob, Time: *j.Ended, Unit: j.Unit, Generation: j.Generation, Seconds: seconds(j.Ended.Sub(j.Asked)),
		Job: j.ID, Verb: j.Verb, State: j.State, From: j.From, Asked: &j.Asked, UID: j.By,
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
	all = slices.SortedStableFunc(slices.Values(all), func(a, b ipc.SocketAccount) int { return cmp.Compare(b.Drops, a.Drops) })
	return all[:maxAccounts]
}

// exited remembers that a process has ended, unless it was told to, or has done
// all that it was started for.
func (l *Ledger) exited(c unit.Change, before unit.Service, v *service.View) {
	p := before.Find(c.Proc.ID)
	done := words.Life(v, p).Type == unit.Oneshot && c.Inst < len(v.State.Inst) && v.State.Inst[c.Inst].Done
	if p.PID == 0 || p.Exit.Kind != unit.NotExited || p.Phase >= unit.Asked || done {
		return
	}
	l.world.Remember(ipc.Record{
		Kind: ipc.RecordExit, Time: time.Now(), Unit: v.Name, Generation: uint32(p.Gen), Seconds: seconds(time.Duration(v.At - v.Runs[p.ID].Began)),
		Instance: c.Inst, PID: p.PID, Text: words.Ended(c.Proc.Exit),
	})
}

// seconds is d to the millisecond.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }
