package ipc

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func init() {
	strangers["asks"] = asks
	strangers["floods"] = floods
}

// asks sends each of its arguments but the first on a connection of its own,
// which is bound to a path that claims to be root's, and prints the statuses of
// the answers.
func asks(args []string) error {
	dir, err := os.MkdirTemp("/tmp", ";uid=0;pid=1;")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for i, request := range args[1:] {
		from := &net.UnixAddr{Name: filepath.Join(dir, fmt.Sprint(i)+";uid=0;")}
		c, err := net.DialUnix("unix", from, &net.UnixAddr{Name: args[0]})
		if err != nil {
			return err
		}
		io.WriteString(c, strings.Replace(request, "Host: x\r\n", "Host: x\r\nX-Remote-User: root\r\nX-Forwarded-For: uid=0\r\nConnection: close\r\n", 1))
		answer, _ := io.ReadAll(c)
		c.Close()
		fmt.Println(statusOf(string(answer)))
	}
	return nil
}

// T1, T4: whoever is not root or ours gets nothing, even where the socket's mode
// would let him in, and nothing that he says changes that.
func TestStrangersGetNothing(t *testing.T) {
	for _, uid := range []int{somebody, nobody} {
		f := &fake{info: Info{Epoch: "e"}}
		h := serve(t, street(t), f)
		h.letIn(t)
		args := []string{h.path}
		for _, r := range Routes {
			args = append(args, example[r.Method+" "+r.Path])
		}
		args = append(args, get("/v1/nowhere"), post("/v1/kill", "{"))
		s := meet(t, uid, "asks", args...)
		if got := strings.Fields(s.dismiss()); len(got) != len(args)-1 || slices.ContainsFunc(got, func(s string) bool { return s != "403" }) {
			t.Errorf("uid %d: %s", uid, got)
		}
		if len(f.acts()) > 0 {
			t.Errorf("uid %d has done %q", uid, f.acts())
		}
	}
}

// T1: and the socket's mode does not let him in.
func TestStrangerCannotConnect(t *testing.T) {
	h := serve(t, street(t), &fake{})
	s := meet(t, somebody, "knocks", h.path)
	s.line()
	if got := s.dismiss(); !strings.HasPrefix(got, "permission denied") || strings.Contains(got, "\n") {
		t.Errorf("he saw: %s", got)
	}
}

func TestJudge(t *testing.T) {
	all, contained := judge{own: 1000, unmapped: -1}, judge{own: 1000, unmapped: 65534}
	for _, c := range []struct {
		judge judge
		uid   uint32
		want  Role
	}{
		{all, 0, Admin},
		{all, 1000, Admin},
		{all, 1001, Nobody},
		{all, 65534, Nobody},
		{all, 1<<32 - 1, Nobody},
		{judge{own: 65534, unmapped: -1}, 65534, Admin},
		{contained, 0, Admin},
		{contained, 65534, Nobody},
		{judge{own: 65534, unmapped: 65534}, 65534, Nobody}, // T5: could be anybody outside
	} {
		if got := c.judge.role(Caller{UID: c.uid}); got != c.want {
			t.Errorf("%+v: uid %d has the role %s, not %s", c.judge, c.uid, got, c.want)
		}
	}
}

func TestUnmapped(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	none := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		idMap, overflow string
		want            int64
	}{
		{file("         0          0 4294967295\n"), file("65534\n"), -1},
		{file("         0       1000          1\n"), file("65534\n"), 65534},
		{file("0 0 1\n1 100000 65536\n"), file("1234\n"), 1234},
		{file("0 0 1\n"), file("garbage"), 65534},
		{file("0 0 1\n"), none, 65534},
		{none, file("65534\n"), 65534},
	} {
		if got := unmapped(c.idMap, c.overflow); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// The kernel says who is there, with all the groups.
func TestPeer(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(street(t), "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	c, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	who, err := peer(c)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := unix.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(Caller{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), PID: os.Getpid()}, groups)
	have := who.Groups
	who.Groups = nil
	if got := fmt.Sprint(who, have); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

// T13: each user may have so many connections and no more, until one of them has
// gone.
func TestDoorCounts(t *testing.T) {
	h := serve(t, street(t), &fake{}, func(s *Server) {
		s.role = func(Caller) Role { return Nobody }
		s.limits.header = time.Hour
	})
	var inside []net.Conn
	for range maxOfUID {
		inside = append(inside, h.raw(t))
	}
	one := h.raw(t)
	if n, err := one.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("one too many: %d, %v", n, err)
	}
	inside[0].Close()
	for statusOf(h.send(t, get("/v1/info"))) != 403 { // as soon as the server has seen it
		runtime.Gosched()
	}
}

// floods is R15: connections that say nothing, half of something, and rubbish.
// It prints a line when all are made, and leaves when it is told to.
func floods(args []string) error {
	says := []string{
		"",
		"GET /v1/in",
		"GET /v1/info HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", 100),
		"GET /v1/info HTTP/1.1\r\nX: " + strings.Repeat("y", 1<<20),
		"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n" + strings.Repeat("{", 1<<16),
		strings.Repeat("\x00\xff\r\n", 1000),
		get("/v1/events") + get("/v1/events"),
	}
	var cs []net.Conn
	for i := range 1000 {
		c, err := net.Dial("unix", args[0])
		if err != nil {
			return err
		}
		cs = append(cs, c)
		go io.WriteString(c, says[i%len(says)])
	}
	fmt.Println("flooded")
	io.Copy(io.Discard, os.Stdin)
	for _, c := range cs {
		c.Close()
	}
	return nil
}

// R15, T13: whatever one user does, root is answered, and it costs little.
func TestFloodIsBounded(t *testing.T) {
	f := &fake{info: Info{PID: 7}}
	h := serve(t, street(t), f)
	h.letIn(t)
	root := h.visit(t)
	before := runtime.NumGoroutine()
	s := meet(t, somebody, "floods", h.path)
	s.line()
	for range 100 {
		if i, err := root.Info(t.Context()); err != nil || i.PID != 7 {
			t.Fatal(i, err)
		}
		if n := runtime.NumGoroutine() - before; n > 3*maxOfUID {
			t.Fatalf("%d goroutines more than before", n)
		}
	}
	s.dismiss()
	if len(f.acts()) > 0 {
		t.Errorf("it did %q", f.acts())
	}
}

// R15: a body without end is not read to its end, whoever sends it.
func TestEndlessBody(t *testing.T) {
	f := &fake{}
	h := serve(t, street(t), f)
	c := h.raw(t)
	fmt.Fprintf(c, "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 1<<30)
	sent := 0
	for {
		n, err := c.Write(make([]byte, 64<<10))
		sent += n
		if err != nil {
			break
		}
	}
	if sent > 8<<20 {
		t.Errorf("it took %d bytes", sent)
	}
	if len(f.acts()) > 0 {
		t.Errorf("it did %q", f.acts())
	}
}
