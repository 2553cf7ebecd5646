package worker_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/worker"
)

func init() {
	roles["sockets"] = takeSockets
	roles["grandchild"] = runGrandchild
	roles["names"] = func() error {
		_, err := worker.Listen("wbe", "tcp", "127.0.0.1:0")
		fmt.Println(err)
		return worker.Ready(context.Background())
	}
	roles["environment"] = func() error {
		_, err := worker.Inherited()
		fmt.Println(err)
		return worker.Ready(context.Background())
	}
	roles["store"] = storeFile
	roles["stored"] = readStored
	roles["notify"] = sayEverything
}

// takeSockets answers once on each kind of socket.
func takeSockets() error {
	web, err := worker.Listen("web", "tcp", "127.0.0.1:1")
	if err != nil {
		return err
	}
	if len(web) != 2 {
		return fmt.Errorf("%d sockets are called web", len(web))
	}
	packets, err := worker.ListenPacket("dns", "udp", "127.0.0.1:1")
	if err != nil {
		return err
	}
	runtime.GC()
	runtime.GC() // which must not close what nobody has asked for yet
	logs, err := worker.ListenPacket("log", "unixgram", "")
	if err != nil {
		return err
	}
	again, err := worker.Listeners("web")
	if err != nil || !slices.Equal(web, again) {
		return fmt.Errorf("asked again: %v, %v instead of %v", again, err, web)
	}
	if err := worker.Ready(context.Background()); err != nil {
		return err
	}
	for _, l := range web {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Fprint(c, l.Addr().Network())
		c.Close()
		if err := l.Close(); err != nil {
			return err
		}
	}
	b := make([]byte, 16)
	n, from, err := packets[0].ReadFrom(b)
	if err != nil {
		return err
	}
	if _, err := packets[0].WriteTo(b[:n], from); err != nil {
		return err
	}
	n, _, err = logs[0].ReadFrom(b)
	return errors.Join(err, worker.Status(context.Background(), string(b[:n])))
}

func TestSocketsOfEachKindAreTakenByName(t *testing.T) {
	tcp, local := listenTCP(t, "web"), listenUnix(t, "web")
	udp, logs := listenUDP(t, "dns"), unixSocket(t, "log", syscall.SOCK_DGRAM, "unixgram")
	w := startWorker(t, spec{role: "sockets", sockets: []socket{udp, tcp, logs, local}})
	w.await("READY=1")
	for _, s := range []socket{tcp, local} {
		c := dial(t, s)
		if got, err := io.ReadAll(c); string(got) != s.network || err != nil {
			t.Errorf("%s answered %q, %v", s.network, got, err)
		}
	}
	c := dial(t, udp)
	fmt.Fprint(c, "question")
	b := make([]byte, 16)
	if n, err := c.Read(b); string(b[:n]) != "question" || err != nil {
		t.Errorf("udp answered %q, %v", b[:n], err)
	}
	fmt.Fprint(dial(t, logs), "line")
	w.await("STATUS=line")
	w.awaitExit()

	if _, err := os.Stat(local.address); err != nil {
		t.Errorf("the path of the unix socket: %v", err)
	}
	for _, s := range []socket{tcp, local, udp, logs} {
		if flags, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("socket %s has flags %#x, %v: it has become blocking for all who share it", s.network, flags, err)
		}
	}
}

func dial(t *testing.T, s socket) net.Conn {
	t.Helper()
	c, err := net.Dial(s.network, s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

func runGrandchild() error {
	if _, err := worker.Inherited(); err != nil {
		return err
	}
	// Only this program's own descriptors are left, and ls needs one for the list.
	cmd := exec.Command("sh", "-c", "ls /proc/self/fd; env")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	return worker.Ready(context.Background())
}

func TestGrandchildrenGetNeitherSocketsNorVariables(t *testing.T) {
	w := startWorker(t, spec{
		role:    "grandchild",
		sockets: []socket{listenTCP(t, "web"), listenUDP(t, "dns")},
		pair:    handoverPair(t),
		env:     []string{"WATCHDOG_USEC=1000000"},
	})
	w.await("READY=1")
	w.awaitExit()
	var fds int
	for _, line := range strings.Fields(w.output.String()) {
		if name, _, ok := strings.Cut(line, "="); ok {
			if strings.HasPrefix(name, "LISTEN_") || strings.HasPrefix(name, "WATCHDOG_") || name == "NOTIFY_SOCKET" || strings.HasPrefix(name, "SUPERVISORD_") {
				t.Errorf("a grandchild has %s", line)
			}
		} else if len(line) == 1 && line[0] >= '0' && line[0] <= '9' {
			fds++
		}
	}
	if fds != 4 {
		t.Errorf("a grandchild has %d descriptors, not 4:\n%s", fds, w.output)
	}
}

func TestAnErrorNamesTheSocketsThereAre(t *testing.T) {
	w := startWorker(t, spec{role: "names", sockets: []socket{listenTCP(t, "web"), listenTCP(t, "admin")}})
	w.await("READY=1")
	w.awaitExit()
	const want = `cannot find a stream socket called "wbe": passed were "admin", "web"` + "\n"
	if got := w.output.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAnEnvironmentThatIsWrongIsSaid(t *testing.T) {
	for _, test := range []struct{ name, env, want string }{
		{"NotANumber", "LISTEN_FDS=two", `cannot take the sockets: LISTEN_FDS="two" is not a number of descriptors`},
		{"Negative", "LISTEN_FDS=-1", `cannot take the sockets: LISTEN_FDS="-1" is not a number of descriptors`},
		{"NotOpen", "LISTEN_FDS=500", `which LISTEN_FDS=500 counts: bad file descriptor`},
		{"Names", "LISTEN_FDNAMES=a:b", `LISTEN_FDNAMES="a:b" has 2 names for 1 descriptors`},
		{"Right", "OTHER=1", "<nil>"},
		{"OtherProcess", "LISTEN_PIDFDID=1", "<nil>"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := startWorker(t, spec{role: "environment", sockets: []socket{listenTCP(t, "web")}, env: []string{test.env}})
			w.await("READY=1")
			w.awaitExit()
			if got := w.output.String(); !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestAHandoverThatIsWrongIsSaidAndDoneWithout(t *testing.T) {
	for _, test := range []struct{ name, env, want string }{
		{"Numbers", "SUPERVISORD_HANDOVER=0:1", `SUPERVISORD_HANDOVER="0:1" are not two descriptors from 4 on`},
		{"Words", "SUPERVISORD_HANDOVER=both", `SUPERVISORD_HANDOVER="both" are not two descriptors from 4 on`},
		{"NotOpen", "SUPERVISORD_HANDOVER=500:501", `cannot take the handover's descriptor 500: bad file descriptor`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := listenTCP(t, "web")
			w := startWorker(t, spec{role: "http", sockets: []socket{s}, env: []string{test.env}})
			w.await("READY=1")
			k := &keepAlive{conn: dial(t, s)}
			k.r = bufio.NewReader(k.conn)
			exchange(t, k, w)
			k.close()
			w.terminate()
			w.awaitExit()
			if got := w.output.String(); !strings.Contains(got, "no connection will be handed over: ") || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestListenWithoutASupervisor(t *testing.T) {
	l, err := worker.Listen("web", "tcp", "127.0.0.1:0")
	if err != nil || len(l) != 1 {
		t.Fatal(l, err)
	}
	defer l[0].Close()
	_, err = worker.Listen("web", "tcp", l[0].Addr().String())
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening twice: %v", err)
	}
	if err := errors.Join(worker.Ready(t.Context()), worker.Store(t.Context(), "x"), worker.Barrier(t.Context())); err != nil {
		t.Errorf("notifying nobody: %v", err)
	}
}

func storeFile() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	fmt.Fprint(w, "kept")
	if err := worker.Store(context.Background(), "state", r, w); err != nil {
		return err
	}
	if err := worker.Barrier(context.Background()); err != nil {
		return err
	}
	return worker.Ready(context.Background())
}

func readStored() error {
	files, err := worker.Stored("state")
	if err != nil {
		return err
	}
	b := make([]byte, 4)
	if _, err := io.ReadFull(files[0], b); err != nil {
		return err
	}
	return errors.Join(worker.Status(context.Background(), string(b)), worker.Unstore(context.Background(), "state"))
}

func TestStoredFilesComeBack(t *testing.T) {
	w := startWorker(t, spec{role: "store"})
	w.await("READY=1") // said after a barrier
	w.awaitExit()
	w.await("FDNAME=state")
	if len(w.fds) != 2 {
		t.Fatalf("%d descriptors were stored", len(w.fds))
	}
	var kept []socket
	for _, fd := range w.fds {
		t.Cleanup(func() { unix.Close(fd) })
		kept = append(kept, socket{name: "state", fd: fd})
	}
	next := startWorker(t, spec{role: "stored", sockets: kept})
	next.await("STATUS=kept")
	next.await("FDSTOREREMOVE=1")
	next.awaitExit()
}

func sayEverything() error {
	return errors.Join(
		worker.Reloading(context.Background()),
		worker.Errno(context.Background(), syscall.ENOENT),
		worker.ExtendTimeout(context.Background(), 3*time.Second),
		worker.Status(context.Background(), "two\nlines"),
		worker.Stopping(context.Background()),
		worker.Barrier(context.Background()),
	)
}

func TestWhatIsSaidToTheSupervisor(t *testing.T) {
	w := startWorker(t, spec{role: "notify"})
	w.awaitExit()
	for _, want := range []string{"RELOADING=1", "MONOTONIC_USEC=", "ERRNO=2", "EXTEND_TIMEOUT_USEC=3000000", "STATUS=two lines", "STOPPING=1", "BARRIER=1"} {
		w.await(want)
	}
}

func TestASupervisorThatIsGoneIsAnErrorAndNoMore(t *testing.T) {
	w := startWorker(t, spec{role: "unheard", env: []string{"NOTIFY_SOCKET=" + filepath.Join(shortDir(t), "nobody")}})
	w.awaitExit()
}

func init() {
	roles["unheard"] = func() error {
		if err := worker.Ready(context.Background()); !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("ready: %w", err)
		}
		return nil
	}
}
