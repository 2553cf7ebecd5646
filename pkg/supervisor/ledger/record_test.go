package ledger

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/history"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// The longest record that a job can have fits, and has no output in it.
func TestLongestRecord(t *testing.T) {
	long := strings.Repeat("\x01", 10_000)
	e := &ipc.Error{Code: ipc.Failed, Message: long, Output: []string{"secret"}}
	for range 100 {
		e.Notes, e.Hints = append(e.Notes, long), append(e.Hints, long)
	}
	var accounts []ipc.SocketAccount
	for i := range 1000 {
		accounts = append(accounts, ipc.SocketAccount{Unit: "http", Address: long[:108], Drops: uint64(i)})
	}
	l := New(0, World{})
	id, _, _ := l.Asked("api", unit.Reload, Ask{})
	ended, _ := l.end(id, unit.Failed, e, func(j *job) { j.Sockets = accounts })
	text, err := ipc.Encode(ended.record())
	if err != nil || len(text) > 64<<10 || strings.Contains(string(text), "secret") {
		t.Errorf("it has %d bytes, %v", len(text), err)
	}
	var back ipc.Record
	if err := json.Unmarshal(text, &back); err != nil || back.Error.Message != history.Cut(long) || len(back.Sockets) != maxAccounts || back.Sockets[0].Drops != 999 {
		t.Errorf("%v, %+v", err, back)
	}
	if ended.Error.Output == nil {
		t.Error("the job lost its output")
	}
}
