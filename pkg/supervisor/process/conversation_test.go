package process

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn"
)

// converse begins a conversation whose other end the test holds.
func converse(t *testing.T, memory int) (c *conversation, other int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[1]) })
	unix.SetNonblock(pair[0], true)
	c, err = newConversation(Child{Control: pair[0]}, layout{}, ready{order: &order{path: "/bin/true"}, room: room(memory)})
	if err != nil {
		t.Fatal(err)
	}
	return c, pair[1]
}

// A start that fails closes its files once: their numbers may be another's by then.
func TestConversationClosesItsFilesOnce(t *testing.T) {
	room, err := spawn.Memory(4096)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := converse(t, room)
	c.close()
	if _, err := unix.FcntlInt(uintptr(room), unix.F_GETFD, 0); err != unix.EBADF {
		t.Fatalf("fd %d is still open: %v", room, err)
	}
	if err := unix.Dup3(1, room, unix.O_CLOEXEC); err != nil { // another's now
		t.Fatal(err)
	}
	c.close()
	if err := unix.Close(room); err != nil {
		t.Errorf("another's file is closed: %v", err)
	}
}
