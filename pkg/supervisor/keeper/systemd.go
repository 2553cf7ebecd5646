package keeper

import (
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// systemd listens to the keeper alone (NotifyAccess=main), so the keeper passes on what
// a manager tells it. It answers the watchdog itself: whether the manager is well is
// asked by a ping.
type systemd struct {
	k        *keeper
	address  string // $NOTIFY_SOCKET; "": nobody listens
	fd       int
	queue    []notice // that the socket had no room for
	watchdog time.Duration
	alive    *timer
}

type notice struct {
	text  string
	files []int
}

// maxNotices is how many may wait. systemd reads them one by one.
const maxNotices = 64

// begin takes what we were started with, and off the environment.
func (s *systemd) begin() {
	s.address = unsetenv("NOTIFY_SOCKET")
	usec, _ := strconv.ParseInt(unsetenv("WATCHDOG_USEC"), 10, 64)
	if pid := unsetenv("WATCHDOG_PID"); usec > 1 && s.address != "" && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		s.watchdog = time.Duration(min(usec, int64(time.Hour/time.Microsecond))) * time.Microsecond
		s.alive = s.k.timer(s.isAlive)
		s.alive.in(s.watchdog / 2)
	}
	names := strings.Split(unsetenv("LISTEN_FDNAMES"), ":")
	n, _ := strconv.Atoi(unsetenv("LISTEN_FDS"))
	if unsetenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		s.k.takeGiven(n, names)
	}
	os.Unsetenv("LISTEN_PIDFDID")
}

func unsetenv(name string) string {
	v := os.Getenv(name)
	os.Unsetenv(name)
	return v
}

// takeGiven keeps what sd_listen_fds(3) tells of as given/0 and so on; the name is the
// meta.
func (k *keeper) takeGiven(n int, names []string) {
	const first = 3
	for i := range max(n, 0) {
		flags, err := unix.FcntlInt(uintptr(first+i), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			return // there are not as many: this one was not inherited
		}
		unix.CloseOnExec(first + i)
		name := ""
		if i < len(names) {
			name = names[i][:min(len(names[i]), maxMeta)]
		}
		k.table.fill(k.table.add(&entry{key: "given/" + strconv.Itoa(i), meta: name}), first+i)
	}
}

func (s *systemd) isAlive() {
	s.alive.in(s.watchdog / 2)
	if len(s.queue) == 0 {
		s.notify(notice{text: "WATCHDOG=1"})
	}
}

// tell passes a notification on. What does not fit into systemd's socket follows when it
// does.
func (s *systemd) tell(q *message) error {
	if s.address == "" {
		return nil
	}
	if len(s.queue) >= maxNotices {
		return unix.EAGAIN
	}
	if err := s.k.table.room(len(q.files)); err != nil {
		return err
	}
	return s.notify(notice{q.fields[0], s.k.table.hold(q.take()...)})
}

func (s *systemd) notify(n notice) error {
	s.queue = append(s.queue, n)
	if len(s.queue) > 1 {
		return nil
	}
	return s.flush()
}

// flush sends what waits. Its error is that of the last that can be sent at no time.
func (s *systemd) flush() (err error) {
	for len(s.queue) > 0 {
		e := s.send(s.queue[0])
		if e == unix.EAGAIN {
			s.k.listen(s.fd, unix.EPOLLOUT)
			return err
		}
		err = e
		s.k.table.discard(s.queue[0].files, nil)
		s.queue = s.queue[1:]
	}
	s.k.listen(s.fd, 0)
	return err
}

// send sends by a socket that is connected, for epoll to tell when there is room. Another
// systemd may listen there by now.
func (s *systemd) send(n notice) (err error) {
	for range 2 {
		if err = s.connect(); err != nil {
			return err
		}
		var rights []byte
		if len(n.files) > 0 {
			rights = unix.UnixRights(n.files...)
		}
		err = again(func() error { return unix.Sendmsg(s.fd, []byte(n.text), rights, nil, unix.MSG_NOSIGNAL) })
		if err != unix.ECONNREFUSED && err != unix.ENOTCONN {
			return err
		}
		s.close()
	}
	return err
}

func (s *systemd) connect() error {
	if s.fd >= 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: s.address}); err == nil {
		err = s.k.watch(fd, 0, s.ready)
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	s.fd = fd
	return nil
}

// ready: there is room, or the listener is gone.
func (s *systemd) ready() {
	if len(s.queue) == 0 {
		s.close()
		return
	}
	s.flush()
}

func (s *systemd) close() {
	s.k.forget(s.fd)
	unix.Close(s.fd)
	s.fd = -1
}
