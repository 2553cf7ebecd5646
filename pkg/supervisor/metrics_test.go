package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/ledger"
	"github.com/supervisord-go/supervisord/pkg/supervisor/metrics"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// scrapes wants lines in what Prometheus would get.
func (h *household) scrapes(want ...string) {
	h.Helper()
	var b bytes.Buffer
	s := h.snapshot()
	if err := metrics.Write(&b, &s); err != nil {
		h.Fatal(err)
	}
	for _, line := range want {
		if !strings.Contains(b.String(), line+"\n") {
			h.Errorf("%s is not in:\n%s", line, &b)
		}
	}
}

// drops are those of api's only socket.
func (h *household) drops() uint64 {
	h.Helper()
	all := h.report.account(h.find("api").View())
	if len(all) != 1 {
		h.Fatalf("api has the sockets %v", all)
	}
	return all[0].Drops
}

// overflow connects until the kernel drops a handshake, and leaves nobody behind
// who tries again.
func (h *household) overflow() {
	h.Helper()
	var port int
	if _, err := fmt.Sscanf(h.report.account(h.find("api").View())[0].Address, "127.0.0.1:%d", &port); err != nil {
		h.Fatal(err)
	}
	for before, n := h.drops(), 0; h.drops() == before; n++ {
		if n == 1000 {
			h.Fatal("the queue is never full")
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			h.Fatal(err)
		}
		defer unix.Close(fd)
		to := unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
		if err := unix.Connect(fd, &to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
			h.Fatal(err)
		}
	}
}

// What a socket drops in the course of a reload is counted, once for all who asked
// for it; what it drops before, or where no reload began, is not.
func TestDropsOfReloadsAreCounted(t *testing.T) {
	h := keepHouse(t, t.TempDir(), strings.NewReplacer(`"$PROGRAM"`, `"/bin/sleep"`, `[service.api]`, "backlog = 1\n[service.api]").Replace(withSocket))
	h.do(unit.Start)
	h.overflow()
	e := h.find("api")
	v := e.View()
	reload := func() unit.JobID { id, _, _ := h.ledger.Asked("api", unit.Reload, ledger.Ask{}); return id }
	changed := func(c unit.Change) {
		cs := []unit.Change{c}
		count(e.counts, cs, h.ledger.Changed(cs, v.State, v), v)
	}
	first, second, never := reload(), reload(), reload()

	began := h.drops()
	changed(unit.Change{Kind: unit.Begun, Job: unit.Job{ID: first, Verb: unit.Reload, Gen: 2, Also: []unit.JobID{second}}})
	h.overflow()
	changed(unit.Change{Kind: unit.Finished, Finish: unit.Finish{Jobs: []unit.JobID{first, second}, Result: unit.Done}})
	counted := fmt.Sprintf(`supervisord_reload_drops_total{unit="api"} %d`, h.drops()-began)
	h.scrapes(counted,
		`supervisord_jobs_total{unit="api",verb="reload",result="done"} 2`,
		`supervisord_jobs_total{unit="api",verb="reload",result="failed"} 0`,
	)
	h.overflow()
	changed(unit.Change{Kind: unit.Finished, Finish: unit.Finish{Jobs: []unit.JobID{never}, Result: unit.Canceled}})
	h.scrapes(counted,
		`supervisord_jobs_total{unit="api",verb="reload",result="canceled"} 1`,
		fmt.Sprintf(`supervisord_socket_drops_total{unit="http.socket",address=%q} %d`, h.report.account(h.find("api").View())[0].Address, h.drops()),
	)
	if j, _ := h.ledger.JobOf(never); j.Sockets != nil {
		t.Errorf("a reload that never began is charged with %v", j.Sockets)
	}
}
