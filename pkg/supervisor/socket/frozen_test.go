package socket

import (
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A glacier is a file system that hangs for whoever touches a path, from freeze to thaw.
type glacier struct {
	frozen  atomic.Bool
	touched chan bool
	hang    chan bool
}

func glacierAt(t *testing.T, path string) *glacier {
	g := &glacier{touched: make(chan bool, 100), hang: make(chan bool)}
	before := disk
	t.Cleanup(func() { disk = before })
	disk = func(at string) {
		if at == path && g.frozen.Load() {
			g.touched <- true
			<-g.hang
		}
	}
	return g
}

// TestFrozenFileSystem holds up what changes its unit, and nothing else: not who asks
// for its status, not another unit, not the watch.
func TestFrozenFileSystem(t *testing.T) {
	at := shortDir(t) + "/x"
	s := spec("frozen", file(at))
	for what, do := range map[string]func(*Table) error{
		"Bind":           func(table *Table) error { c := *s; c.Mode = 0o666; return table.Bind(&c) },
		"Listen":         func(table *Table) error { return table.Listen("frozen") },
		"Refuse":         func(table *Table) error { return table.Refuse("frozen") },
		"Audit":          func(table *Table) error { table.Audit("frozen"); return nil },
		"Free":           func(table *Table) error { table.Free("frozen", 1); return nil },
		"Drop":           func(table *Table) error { return table.Drop("frozen") },
		"the first Bind": nil,
	} {
		t.Run(what, func(t *testing.T) {
			ice := glacierAt(t, at)
			table := NewTable(nil)
			found := watching(t, table)
			must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
			must(t, table.Listen("http"))
			if do == nil {
				do = func(table *Table) error { return table.Bind(s) }
			} else {
				must(t, table.Bind(s))
				must(t, table.Listen("frozen"))
			}
			ice.frozen.Store(true)
			done := make(chan error)
			go func() { done <- do(table) }()
			<-ice.touched
			if st := table.Status("frozen"); len(st) != 1 && what != "Drop" || len(st) == 1 && (st[0].Address != at || !strings.Contains(st[0].Note, "supervisord is ")) {
				t.Errorf("status: %+v", st)
			}
			table.Look("frozen")
			table.Names()
			table.Unclaimed()
			must(t, table.Bind(spec("http", tcp("127.0.0.1", 0))))
			must(t, unix.Shutdown(must2(t, table, 1).FD, unix.SHUT_RD)) // the watch mends it
			if f := <-found; f.What != "shut it down" {
				t.Errorf("found %v", f)
			}
			served(t, table)
			table.Free("http", 1)
			must(t, table.Drop("http"))
			select {
			case err := <-done:
				t.Errorf("it did not touch the file system: %v", err)
			default:
			}
			close(ice.hang)
			must(t, <-done)
			must(t, table.Close())
		})
	}
}

// TestOneAuditAtATime: events of a unit whose file system hangs do not pile up.
func TestOneAuditAtATime(t *testing.T) {
	began, hold := make(chan bool, 100), make(chan bool)
	w := newWatch(func(string) { began <- true; <-hold })
	w.fds[1] = &watched{name: "http"}
	for range 50 {
		w.stir(1)
	}
	<-began
	for range 50 {
		w.stir(1)
	}
	w.mu.Lock()
	if a := w.audits["http"]; len(began) > 0 || a.timer != nil || !a.again {
		t.Errorf("%d more have begun, %+v", len(began), a)
	}
	w.mu.Unlock()
	hold <- true
	<-began // once more for all that happened
	hold <- true
	w.close()
	if len(began) > 0 {
		t.Error("and again")
	}
}
