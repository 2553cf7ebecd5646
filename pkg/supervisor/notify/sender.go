package notify

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A sender is who sent a datagram, as the kernel says. The zero sender is unknown.
type sender struct {
	unix.Ucred
	pidfd int // negative: none; closed by whoever received the datagram
}

func (from sender) String() string {
	if from.Pid <= 0 {
		return ""
	}
	return fmt.Sprintf(" (pid %d, uid %d)", from.Pid, from.Uid)
}

// may says whether a sender may speak.
func (s *Socket) may(from sender) error {
	switch {
	case from.Pid <= 0:
		return anonymous
	case s.o.Access == unit.NotifyNone:
		return nobodyMay
	case s.o.Access == unit.NotifyMain && int64(from.Pid) != s.main.Load():
		return notMain
	case s.knows(from):
		return nil
	case !s.o.Open:
		return foreignUser
	}
	return s.belongs(from)
}

// knows says whether a sender is known by its user alone.
func (s *Socket) knows(from sender) bool {
	return from.Uid == 0 || from.Uid == uint32(os.Geteuid()) || slices.Contains(s.o.UIDs, from.Uid)
}

// userOf is the real user of a process now; -1: not known.
func userOf(pid int64) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			var uid int
			if _, err := fmt.Sscan(ids, &uid); err == nil {
				return uid
			}
		}
	}
	return -1
}

// belongs asks whether a sender of another user is a process of the invocation.
// Since Linux 6.5 its pidfd comes with the message and is that of the sender
// itself. Before, one is opened by its number, which is another's if the sender
// has ended since and the number was given again; then the other would have to
// be a process of the invocation for the message to count.
func (s *Socket) belongs(from sender) error {
	if from.pidfd < 0 {
		fd, err := unix.PidfdOpen(int(from.Pid), 0)
		if err != nil {
			return senderGone
		}
		defer unix.Close(fd)
		from.pidfd = fd
	}
	switch {
	case s.member != nil && s.member(from.pidfd, int(from.Pid)):
		return nil
	case readable(from.pidfd): // a pidfd is when its process has ended
		return senderGone
	}
	return notMember
}

// readable says whether poll(2) has something to read, or an end.
func readable(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return n > 0 || err != nil && err != unix.EINTR
}

// refuse counts a dropped message, keeps why, and reports the first of its kind.
func (s *Socket) refuse(why error, from sender) {
	s.mu.Lock()
	s.refusals++
	s.last = why.Error() + from.String()
	s.dropped[why.Error()]++
	first := s.dropped[why.Error()] == 1
	s.mu.Unlock()
	if first && s.o.Refused != nil {
		s.o.Refused(why.Error(), int(from.Pid), from.Uid)
	}
}
