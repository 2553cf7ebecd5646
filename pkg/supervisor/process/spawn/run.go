// Package spawn starts processes that carry out a program written as data.
//
// A [Program] is a list of system calls with their arguments. supervisord writes down
// what a service is to become. A process that shares nothing with supervisord receives
// the program over a socket and carries it out, call by call; the last call is execve.
//
// Three processes take part:
//
//   - supervisord, whose memory and files no service may see;
//   - the [Template], which supervisord forks once. It gives up all of supervisord's
//     memory and files, and then forks whenever it is asked to (serve.go);
//   - the child that it forks, by CLONE_PARENT a child of supervisord's. It says [Born],
//     receives programs, and answers with a [Frame] each (run.go).
//
// So a child contains nothing of supervisord's, its fork copies only a few page tables,
// and a frozen cgroup, a debugger or a disk may hold it up without holding up
// supervisord. A fork(2) of supervisord itself would copy the page tables of all its
// memory for each start, and vfork(2) would stop it until the child has executed
// something.
//
// # What runs without Go
//
// A template and its children have one thread and no Go runtime. All that they run, the
// functions of run.go and from forkTemplate on those of serve.go, is nosplit, norace and
// nocheckptr, allocates nothing, calls nothing but its like and RawSyscall6, and stores
// pointers nowhere but on the stack. The linker refuses them if they need more stack than
// a nosplit function has. A build without optimizations, as dlv makes it, is beyond
// that; it links when this package keeps them:
//
//	go build -gcflags='all=-N -l' -gcflags=github.com/supervisord-go/supervisord/pkg/supervisor/process/spawn= ./cmd/supervisord
//
// The package imports next to nothing, so that little stands below what starts others.
package spawn

import (
	"syscall"
	"unsafe"
)

// An op is one step of a program: a system call, or one of the builtins.
type op struct {
	call   uint32
	status uint8    // the exit status if it fails
	take   uint8    // bit i: arg[i] is the number of a slot that holds the argument
	keep   uint8    // 1+slot for the result, which is -1 after an errno that is allowed; 0: none
	skip   uint8    // so many ops are left out when it succeeds
	miss   uint8    // and so many when it fails as it may
	allow  [4]uint8 // errnos that are no failure; anyErrno: none is one
	_      [3]uint8
	arg    [6]uintptr
}

const anyErrno = 255

// Builtins: what takes no system call, or a loop of them.
const (
	builtin = 1<<16 + iota
	check   // those of the 32 bits at arg0 that are in arg1 are arg2; else errno arg3
	within  // each of arg2 numbers of 32 bits at arg0 is among as many at arg1; else errno arg3
	compare // arg0 is arg1; else errno arg2
	store   // the 32 bits at arg0 become arg1
	load    // the result is the 64 bits at arg0
	least   // the 64 bits at arg0 become those at arg1, if these are less
	readAll // read fd arg0 to its end into arg1, fewer than arg2 bytes; the result is their number
	answer  // send a frame of kind arg0 with value arg1
	again   // another program comes
)

const (
	slots   = 8 // the registers of a program
	control = 0 // the slot of the socket that it came from
	slotted = 3 // the arguments that can be taken from slots
)

// header begins a program.
type header struct {
	size  uintptr // of the program, this header included
	first uintptr // where its ops begin
	count uintptr // of ops
	round uintptr // see Program
}

const (
	headerSize = unsafe.Sizeof(header{})
	opSize     = unsafe.Sizeof(op{})
	frameSize  = unsafe.Sizeof(Frame{})
)

// run does programs until one of them executes another. It does not return. memory
// is where they are put.
//
// It must be entered with all signals blocked and no handler left: they were Go's.
//
//go:nosplit
//go:norace
//go:nocheckptr
func run(b *board, memory unsafe.Pointer) {
	var pc, result, i uintptr
	var errno, refused syscall.Errno
	var o *op
	h := (*header)(memory)
	b.slot[control] = firstReceived
	b.round = 0
	syscall.RawSyscall6(syscall.SYS_CLOSE, templateSocket, 0, 0, 0, 0, 0)
	syscall.RawSyscall6(syscall.SYS_SETSID, 0, 0, 0, 0, 0, 0)
	// Who hangs on its way to be a program can be ended like the program.
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&b.none)), 0, 8, 0, 0)
	b.tell(Born, 0, 0, 0)

next:
	b.receive(memory)
	for pc = 0; pc < h.count; pc++ {
		o = (*op)(unsafe.Add(memory, h.first+pc*opSize))
		b.arg = o.arg
		for i = 0; i < slotted; i++ {
			if o.take&(1<<i) != 0 {
				b.arg[i] = b.slot[b.arg[i]%slots]
			}
		}
		errno, result = 0, 0
		switch o.call {
		default:
			result, _, errno = syscall.RawSyscall6(uintptr(o.call), b.arg[0], b.arg[1], b.arg[2], b.arg[3], b.arg[4], b.arg[5])
		case check:
			if *(*uint32)(unsafe.Add(memory, b.arg[0]-uintptr(memory)))&uint32(b.arg[1]) != uint32(b.arg[2]) {
				errno = syscall.Errno(b.arg[3])
			}
		case within:
			for i = 0; i < b.arg[2] && errno == 0; i++ {
				errno = among(*(*uint32)(unsafe.Add(memory, b.arg[0]-uintptr(memory)+4*i)), unsafe.Add(memory, b.arg[1]-uintptr(memory)), b.arg[2], syscall.Errno(b.arg[3]))
			}
		case compare:
			if b.arg[0] != b.arg[1] {
				errno = syscall.Errno(b.arg[2])
			}
		case store:
			*(*uint32)(unsafe.Add(memory, b.arg[0]-uintptr(memory))) = uint32(b.arg[1])
		case load:
			result = uintptr(*(*uint64)(unsafe.Add(memory, b.arg[0]-uintptr(memory))))
		case least:
			if *(*uint64)(unsafe.Add(memory, b.arg[1]-uintptr(memory))) < *(*uint64)(unsafe.Add(memory, b.arg[0]-uintptr(memory))) {
				*(*uint64)(unsafe.Add(memory, b.arg[0]-uintptr(memory))) = *(*uint64)(unsafe.Add(memory, b.arg[1]-uintptr(memory)))
			}
		case readAll:
			for {
				i, _, errno = syscall.RawSyscall6(syscall.SYS_READ, b.arg[0], b.arg[1]+result, b.arg[2]-result, 0, 0, 0)
				if errno == syscall.EINTR {
					continue
				}
				if errno != 0 || i == 0 {
					break
				}
				if result += i; result == b.arg[2] {
					errno = syscall.EFBIG
					break
				}
			}
		case answer:
			b.tell(Kind(b.arg[0]), pc, b.arg[1], refused)
		case again:
			goto next
		}
		if errno == 0 {
			if o.keep != 0 {
				b.slot[(o.keep-1)%slots] = result
			}
			pc += uintptr(o.skip)
			continue
		}
		if e := uint8(errno); e == 0 || o.allow[0] != anyErrno && e != o.allow[0] && e != o.allow[1] && e != o.allow[2] && e != o.allow[3] {
			b.tell(Failed, pc, 0, errno)
			quit(uintptr(o.status))
		}
		refused = errno
		if o.keep != 0 {
			b.slot[(o.keep-1)%slots] = ^uintptr(0)
		}
		pc += uintptr(o.miss)
	}
	quit(255)
}

//go:nosplit
//go:norace
//go:nocheckptr
func among(n uint32, at unsafe.Pointer, count uintptr, errno syscall.Errno) syscall.Errno {
	for i := uintptr(0); i < count; i++ {
		if *(*uint32)(unsafe.Add(at, 4*i)) == n {
			return 0
		}
	}
	return errno
}

// receive takes the program of the round that is due. Without supervisord there is
// no order to go on: then the process ends.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (b *board) receive(memory unsafe.Pointer) {
	h := (*header)(memory)
	for {
		b.inIov.base, b.inIov.len = uintptr(memory), programSize
		b.in.controllen = unsafe.Sizeof(b.control)
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVMSG, b.slot[control], uintptr(unsafe.Pointer(&b.in)), syscall.MSG_CMSG_CLOEXEC, 0, 0, 0)
		if e == syscall.EINTR {
			continue
		}
		if e != 0 || n < headerSize || b.in.flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0 {
			quit(0)
		}
		if b.in.controllen > cmsgSize {
			fd := uintptr(*(*int32)(unsafe.Add(unsafe.Pointer(&b.control), cmsgSize)))
			n = fill(fd, memory)
			syscall.RawSyscall6(syscall.SYS_CLOSE, fd, 0, 0, 0, 0, 0)
		}
		if n != h.size || h.count > h.size/opSize || h.first > h.size-h.count*opSize {
			quit(0)
		}
		if h.round == b.round {
			b.round++
			return
		}
	}
}

// fill reads a file from its beginning on, and returns how much there was.
//
//go:nosplit
//go:norace
//go:nocheckptr
func fill(fd uintptr, memory unsafe.Pointer) (got uintptr) {
	for got < programSize {
		n, _, e := syscall.RawSyscall6(syscall.SYS_PREAD64, fd, uintptr(memory)+got, programSize-got, got, 0, 0)
		if e == syscall.EINTR {
			continue
		}
		if e != 0 || n == 0 {
			break
		}
		got += n
	}
	return got
}

// tell sends a frame, or ends the process.
//
//go:nosplit
//go:norace
//go:nocheckptr
func (b *board) tell(kind Kind, index, value uintptr, errno syscall.Errno) {
	b.frame.Kind, b.frame.Index, b.frame.Value = kind, uint32(index), uint64(value)
	b.frame.Errno, b.frame.Round = uint32(errno), uint32(b.round)
	send(b.slot[control], uintptr(unsafe.Pointer(&b.frame)), frameSize)
}

// send sends a message, or ends the process: whom it was for is gone.
//
//go:nosplit
//go:norace
//go:nocheckptr
func send(socket, from, size uintptr) {
	for {
		_, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, socket, from, size, syscall.MSG_NOSIGNAL, 0, 0)
		switch e {
		case 0:
			return
		case syscall.EINTR:
		default:
			quit(0)
		}
	}
}

//go:nosplit
//go:norace
func quit(status uintptr) {
	for {
		syscall.RawSyscall6(syscall.SYS_EXIT_GROUP, status, 0, 0, 0, 0, 0)
	}
}
