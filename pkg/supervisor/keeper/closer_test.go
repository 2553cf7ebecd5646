package keeper_test

import (
	"encoding/binary"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper"
	"github.com/supervisord-go/supervisord/pkg/supervisor/keeper/keepertest"
)

// lingering is a socket whose last close waits for a reader that never comes.
func lingering(t *testing.T) (fd int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	to := listener.Addr().(*net.TCPAddr)
	must(t, unix.Connect(fd, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}))
	reader, err := listener.Accept()
	must(t, err)
	t.Cleanup(func() { reader.Close() })
	const bound = 5 // seconds: without a bound a keeper that waits would never end
	must(t, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: bound}))
	must(t, unix.SetNonblock(fd, true))
	for full := false; !full; {
		_, err := unix.Write(fd, make([]byte, 64<<10))
		full = err == unix.EAGAIN
	}
	return fd
}

// ask sends a question as it is on the line: its verb, its number, its fields.
func ask(t *testing.T, line int, verb byte, number uint32, fields []string, fds ...int) {
	t.Helper()
	b := binary.LittleEndian.AppendUint32([]byte{verb}, number)
	for _, f := range fields {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(f))), f...)
	}
	must(t, unix.Sendmsg(line, b, unix.UnixRights(fds...), nil, 0))
}

// answers are the numbers of the next questions that are done.
func answers(t *testing.T, line, count int) (numbers []uint32) {
	t.Helper()
	const done = 65
	must(t, unix.SetNonblock(line, false))
	for len(numbers) < count {
		var b [1024]byte
		n, err := unix.Read(line, b[:])
		if err != nil || n < 5 {
			t.Fatalf("read %d bytes, %v", n, err)
		}
		if b[0] == done {
			numbers = append(numbers, binary.LittleEndian.Uint32(b[1:]))
		}
	}
	return numbers
}

// The last close of what others have made waits as long as they like. Nobody else does.
func TestACloseThatIsHeldUp(t *testing.T) {
	const put, drop, up = 1, 2, 7
	s := keepertest.Serve(t)
	s.Manager(keeper.Handler{})
	s.Kill()
	line, _ := s.Line()
	defer unix.Close(line)
	fd := lingering(t)
	ask(t, line, up, 1, nil)
	ask(t, line, put, 2, []string{"fds/web/1", ""}, fd)
	answers(t, line, 2)
	unix.Close(fd)
	ask(t, line, drop, 3, []string{"fds/web/1"})
	ask(t, line, put, 4, []string{"other", ""})
	if got := answers(t, line, 1); got[0] != 4 {
		t.Error("who asks next waits until it is closed")
	}
	answers(t, line, 1) // it is not waited for to the end
}
