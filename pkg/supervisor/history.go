package supervisor

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/supervisord-go/supervisord/pkg/ipc"
)

// History is what happened, over restarts of supervisord. See [ipc.Supervisor].
func (m *Manager) History(r ipc.HistoryRequest) (ipc.History, error) {
	strange := map[string]bool{} // units of which nobody has heard yet
	for _, name := range r.Units {
		if m.find(name).Actor == nil {
			strange[name] = true
		}
	}
	h := ipc.History{Records: []ipc.Record{}}
	told := tellings{}
	damaged, err := m.history.Backwards(func(text []byte) bool {
		x, ok := understood(text)
		if ok && !told.twice(x) && len(h.Records) < r.N && (x.Kind == ipc.RecordLost || len(r.Units) == 0 || slices.Contains(r.Units, x.Unit)) {
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

// tellings are the times of what was told, by what it was. A supervisord that was killed
// may have told something that the next one has told again.
type tellings map[string]time.Time

// tellAgain is in how long the next one has.
const tellAgain = time.Minute

func (ts tellings) twice(x ipc.Record) bool {
	what := x.Kind + "/" + x.Unit + "/" + x.Job
	if x.Kind == ipc.RecordExit {
		what = fmt.Sprintf("%s/%s/%d/%d/%d/%s", x.Kind, x.Unit, x.Generation, x.Instance, x.PID, x.Text)
	}
	was, told := ts[what]
	ts[what] = x.Time
	return told && x.Kind != ipc.RecordLost && was.Sub(x.Time).Abs() < tellAgain
}

// understood reads a record. Those that another version has written otherwise are
// left to it.
func understood(text []byte) (ipc.Record, bool) {
	var x ipc.Record
	err := json.Unmarshal(text, &x)
	if err != nil || !slices.Contains([]string{ipc.RecordJob, ipc.RecordExit, ipc.RecordLost}, x.Kind) {
		return x, false
	}
	addResets(x.Sockets, text)
	return x, true
}

// addResets counts as dropped what versions before this one counted apart: connections
// that a steered socket had reset.
func addResets(to []ipc.SocketAccount, text []byte) {
	var was struct{ Sockets []struct{ Lost uint64 } }
	if json.Unmarshal(text, &was) != nil {
		return
	}
	for i := range min(len(to), len(was.Sockets)) {
		to[i].Drops += was.Sockets[i].Lost
	}
}
