package ledger

import (
	"path/filepath"
	"sync"
	"testing"
)

func TestWritersDoNotMixTheirLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	if entries, err := Read(path); err != nil || entries != nil {
		t.Fatalf("nobody has written: %v, %v", entries, err)
	}
	var writers sync.WaitGroup
	for pid := range 20 {
		writers.Go(func() {
			if err := Append(path, Entry{PID: pid, Event: Left, Build: "plain", Answered: int64(pid)}); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	entries, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, e := range entries {
		if e.Answered != int64(e.PID) || seen[e.PID] {
			t.Errorf("entry %+v", e)
		}
		seen[e.PID] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d lines of 20", len(seen))
	}
}
