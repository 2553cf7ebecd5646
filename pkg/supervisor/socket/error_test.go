package socket

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// TestHolderOfThePortIsNamed: threat T52, for TCP of both families, every
// address, and abstract names.
func TestHolderOfThePortIsNamed(t *testing.T) {
	cases := []struct{ network, address, want string }{
		{"tcp", "127.0.0.1:0", "127.0.0.1"},
		{"tcp", "0.0.0.0:0", "127.0.0.1"},
		{"tcp", "127.0.0.1:0", "0.0.0.0"},
		{"unix", fmt.Sprint("@supervisord-test-", os.Getpid()), ""},
	}
	if haveIPv6() {
		cases = append(cases, struct{ network, address, want string }{"tcp", "[::1]:0", "::1"},
			struct{ network, address, want string }{"tcp", "[::]:0", "127.0.0.1"})
	}
	for _, c := range cases {
		holder := role("listen", c.network, c.address)
		said := begin(t, holder)
		a := file(said)
		if c.network == "tcp" {
			a = tcp(c.want, 0)
			fmt.Sscanf(said[strings.LastIndex(said, ":")+1:], "%d", &a.Port)
		}
		err := NewTable(nil).Bind(spec("http", a))
		var e *BindError
		if !errors.As(err, &e) || !errors.Is(err, syscall.EADDRINUSE) || e.Socket != "http" || e.PID != holder.Process.Pid {
			t.Errorf("%s: %v", a, err)
			continue
		}
		want := fmt.Sprintf("cannot bind %s: address already in use by pid %d (%s)", a, e.PID, "exe")
		if err.Error() != want || e.Hint() != "stop that process, or listen elsewhere" {
			t.Errorf("it says %q, hint %q", err, e.Hint())
		}
	}
}

// TestHolderThatCannotBeSeen: an ordinary user may not look into the processes
// of others; then at least whose it is.
func TestHolderThatCannotBeSeen(t *testing.T) {
	needRoot(t, "the holder must be somebody else's")
	said := begin(t, role("listen", "tcp", "127.0.0.1:0"))
	bind := role("say", said)
	bind.SysProcAttr.Credential = as(stranger)
	want := "cannot bind " + said + ": address already in use by a process of uid 0"
	if got := begin(t, bind); got != want {
		t.Errorf("it says %q, not %q", got, want)
	}
}

// sayBind prints what Bind says of a TCP address.
func sayBind(args []string) {
	a := tcp("127.0.0.1", 0)
	fmt.Sscanf(args[0], "127.0.0.1:%d", &a.Port)
	err := NewTable(nil).Bind(spec("http", a))
	fmt.Println(err)
	if e := (*BindError)(nil); errors.As(err, &e) && len(args) > 1 {
		fmt.Println(e.Hint())
	}
}

// TestOurOwnSocketIsNamed by its unit: a port that is bound and does not listen
// shows in no table of the kernel's.
func TestOurOwnSocketIsNamed(t *testing.T) {
	at := shortDir(t) + "/x.sock"
	table := NewTable(nil)
	defer table.Close()
	must(t, table.Bind(spec("admin", tcp("127.0.0.1", 0))))
	a := tcp("127.0.0.1", 0)
	fmt.Sscanf(table.Status("admin")[0].Address, "127.0.0.1:%d", &a.Port)
	must(t, table.Bind(spec("admin", table.units["admin"].order[0].(*listener).addr, file(at))))
	for _, a := range []unit.Address{a, tcp("0.0.0.0", a.Port), file(at)} {
		err := table.Bind(spec("http", a))
		want := fmt.Sprintf("cannot bind %s: address already in use by supervisord itself ([socket.admin])", a)
		if a.Network == "tcp" && (err == nil || err.Error() != want) {
			t.Errorf("it says %v, not %q", err, want)
		}
		if e := (*BindError)(nil); !errors.As(err, &e) || !strings.Contains(e.Hint(), "two sockets") {
			t.Errorf("%s: %v", a, err)
		}
	}
}

// TestPortForRootOnly: the cause, and what to do about it.
func TestPortForRootOnly(t *testing.T) {
	if !asStranger(t) {
		return
	}
	if firstFreePort() <= 80 {
		t.Skip("this machine lets everybody have port 80")
	}
	err := NewTable(nil).Bind(spec("http", tcp("127.0.0.1", 80)))
	var e *BindError
	if !errors.As(err, &e) || !errors.Is(err, syscall.EACCES) || err.Error() != "cannot bind 127.0.0.1:80: permission denied" {
		t.Fatal(err)
	}
	if !strings.Contains(e.Hint(), "ports below 1024 need root") {
		t.Errorf("hint %q", e.Hint())
	}
}

// TestAddressOfNoInterface: the hint names the option, and with it it works.
func TestAddressOfNoInterface(t *testing.T) {
	s := spec("http", tcp("192.0.2.1", 0)) // TEST-NET-1 is nobody's
	table := NewTable(nil)
	defer table.Close()
	err := table.Bind(s)
	if e := (*BindError)(nil); !errors.As(err, &e) || !errors.Is(err, syscall.EADDRNOTAVAIL) || !strings.Contains(e.Hint(), "free_bind") {
		t.Fatal(err)
	}
	s.FreeBind = true
	must(t, table.Bind(s))
	if haveIPv6() {
		s := spec("six", tcp("2001:db8::1", 0))
		s.FreeBind = true
		must(t, table.Bind(s))
	}
}

// TestAddressesThatAreNone never reach the kernel.
func TestAddressesThatAreNone(t *testing.T) {
	for _, a := range []unit.Address{tcp("localhost", 1), tcp("127.0.0.1", -1), tcp("127.0.0.1", 65536), tcp("fe80::1%eth0", 1), tcp("1.2.3", 1)} {
		if err := NewTable(nil).Bind(spec("http", a)); err == nil || !strings.HasPrefix(err.Error(), "cannot bind ") {
			t.Errorf("%v: %v", a, err)
		}
	}
}

// TestCommandIsPrintable: a process can call itself anything (T20).
func TestCommandIsPrintable(t *testing.T) {
	before := command(os.Getpid())
	defer os.WriteFile("/proc/self/comm", []byte(before), 0)
	must(t, os.WriteFile("/proc/self/comm", []byte("a\x1b[31m\u202eb"), 0))
	if got := command(os.Getpid()); strings.ContainsAny(got, "\x1b\u202e") || !strings.HasPrefix(got, "a?[31m?") {
		t.Errorf("it is called %q", got)
	}
}
