package keeper

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLost is what all calls return when the keeper is gone.
var ErrLost = errors.New("the keeper is gone")

// A Client is a manager's end of the line. It is safe for use by several goroutines. A
// call waits for the keeper's answer, which never takes long, and for nothing else. An
// error of a call is a syscall.Errno or ErrLost.
type Client struct {
	handler Handler
	keeper  Keeper
	file    *os.File
	conn    syscall.RawConn
	process *os.File // the keeper's pidfd; nil: the end of the line tells enough
	in      receiver
	ruling  chan Past     // has one when we rule
	lost    chan struct{} // is closed when the keeper is gone

	mu     sync.Mutex
	number uint32
	calls  map[uint32]*call
	ends   map[string]*ends
}

// A Handler is told what the keeper says of its own accord. Its functions are called one
// at a time by the goroutine that reads; they must not wait, and not call the Client.
// Each may be nil.
type Handler struct {
	// Signal: somebody has sent one to supervisord. It is told to every manager until one
	// says Heard, and again when it comes again.
	Signal func(Signal)

	// Ping asks whether the manager is well. One that calls pong in time lives on. It may
	// be called from anywhere. Without a Ping the Client answers.
	Ping func(pong func())

	// Leave: another manager is up. Store what there is to store, and exit.
	Leave func()

	// Lost: the keeper is gone, or does not speak as it should. It is the last that is
	// called.
	Lost func(error)
}

// A Signal is one that was sent to supervisord.
type Signal struct {
	Signal syscall.Signal
	serial uint32
}

// Keeper is what a keeper says of itself.
type Keeper struct {
	Wire        int
	PID         int
	NoFile      uint64 // the soft limit of open files that it was started with
	OOMScoreAdj int    // that it was started with
}

// An Entry is what is kept under a key. Its descriptors are the receiver's, and
// close-on-exec.
type Entry struct {
	Key, Meta string
	FDs       []int // of a process: its pidfd
	State     State

	PID     int                // of a process
	Foreign bool               // it is not the keeper's child
	Status  syscall.WaitStatus // of one that has ended; it may be Unknown

	// End gets the status of a process when it has ended, or at once if it has. A foreign
	// one may first be Unknown, and have its status when its parent has reaped it: then
	// both come. Nothing waits for the receiver.
	End <-chan syscall.WaitStatus

	// What there is to know about a child that waits for programs: where it puts them,
	// and the number of the first of its files (package spawn); and Keeper.NoFile.
	Base   uintptr
	First  int
	NoFile uint64
}

// Close closes the descriptors.
func (e *Entry) Close() {
	closeAll(e.FDs)
	e.FDs = nil
}

// Past is how the manager before has ended.
type Past struct {
	Managers int // that there were; 0: there is nothing else to tell
	PID      int
	Status   syscall.WaitStatus
	Why      string // the keeper has killed it
}

// A call is a question, and what was answered.
type call struct {
	drops   string // the key of which no end is told afterwards; "": none
	entries []Entry
	err     error
	done    chan struct{}
}

// ends is where the end of a process is to be told.
type ends struct {
	waiting []chan syscall.WaitStatus
	told    bool
	status  syscall.WaitStatus
}

// Line is the manager's end of the line, if this process is a manager that our parent
// has started. It also gives the process its name and its secrecy, so it is for the
// first lines of main.
func Line() (fd int, err error) {
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	peer, err := peerOf(managerLine)
	if err != nil || int(peer.Pid) != os.Getppid() || int(peer.Uid) != os.Geteuid() {
		return -1, errors.New("cannot run as a manager: supervisord itself starts it")
	}
	name("supervisord-mgr")
	unix.CloseOnExec(managerLine)
	return managerLine, nil
}

// peerOf names the maker of the socket that ours is connected to, if it is a line.
func peerOf(fd int) (*unix.Ucred, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, err
	}
	if kind != unix.SOCK_SEQPACKET {
		return nil, unix.EPROTOTYPE
	}
	return unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
}

func newClient(h Handler) *Client {
	return &Client{handler: h, in: receiver{refuse: refuse}, ruling: make(chan Past, 1), lost: make(chan struct{}), calls: map[uint32]*call{}, ends: map[string]*ends{}}
}

// Connect begins to talk to the keeper at the other end of fd, which is the client's
// from then on.
func Connect(fd int, h Handler) (*Client, error) {
	c := newClient(h)
	unix.CloseOnExec(fd)
	err := unix.SetNonblock(fd, true)
	if err == nil {
		err = c.meet(fd)
	}
	if err != nil {
		unix.Close(fd)
		return nil, failure("talk to the keeper", err)
	}
	if err = c.open(fd); err != nil {
		return nil, failure("talk to the keeper", err)
	}
	go c.read()
	return c, nil
}

// meet reads the keeper's first word, which was there before we were.
func (c *Client) meet(fd int) error {
	m, err := c.in.receive(fd)
	if err != nil {
		return err
	}
	if m.verb != sayHello {
		return errBroken
	}
	r := m.read()
	wire, _ := r.number(32), r.text()
	c.keeper = Keeper{Wire: wire, PID: r.number(32), NoFile: r.unsigned(64), OOMScoreAdj: r.number(32)}
	if r.broken || wire != Wire {
		return errBroken
	}
	return nil
}

// open has Go's poller wait for the line, and for the keeper's end. The end of the line
// may come later: while the keeper forks a template, that has a copy of the other end.
func (c *Client) open(fd int) (err error) {
	c.file = os.NewFile(uintptr(fd), "keeper")
	if c.conn, err = c.file.SyscallConn(); err == nil {
		err = c.file.SetReadDeadline(time.Time{}) // an error: it is not polled
	}
	if err != nil {
		c.file.Close()
		return err
	}
	pidfd, err := unix.PidfdOpen(c.keeper.PID, 0)
	if err == nil {
		unix.SetNonblock(pidfd, true)
		c.process = os.NewFile(uintptr(pidfd), "keeper")
		go c.watch(c.process)
	}
	return nil
}

func (c *Client) watch(process *os.File) {
	ended := false
	if conn, err := process.SyscallConn(); err == nil {
		conn.Read(func(fd uintptr) bool {
			ended = exitedAlready(int(fd))
			return ended
		})
	}
	if ended { // else the poller takes no more: the end of the line has to do
		c.file.SetReadDeadline(time.Unix(1, 0)) // read does the rest
	}
}

// Close gives up the line. It is for tests: a manager exits.
func (c *Client) Close() error {
	if c.process != nil {
		c.process.Close()
	}
	return c.file.Close()
}

// Keeper is what the keeper said of itself.
func (c *Client) Keeper() Keeper { return c.keeper }
