package spawn

import (
	"encoding/binary"
	"strings"
	"syscall"
	"unsafe"
)

// A Program is a list of system calls for a child. A child does one of each round,
// from 0 on, and passes over one that it has done: so whoever does not know whether
// a program was sent may send it again.
type Program struct {
	message []byte
	labels  []Label
	answers map[uint32]Kind // what its ops may still answer, by their index
}

// A Label says what an op does, to what, and the status that a process exits with
// which cannot.
type Label struct {
	Step   string
	Detail string
	Status int
}

// Label is that of the op which a frame names.
func (p *Program) Label(index uint32) Label {
	if int(index) >= len(p.labels) {
		return Label{}
	}
	return p.labels[index]
}

// Answers says whether f may be an answer to the program, and is to be asked of each
// frame once: no op answers twice. A child has changed its user by then, who may be
// able to speak in its place (fs.suid_dumpable in proc_sys_fs(5)).
func (p *Program) Answers(f Frame) bool {
	if f.Kind == Failed {
		return uint64(f.Index) < uint64(len(p.labels)) && f.Errno != 0
	}
	kind, ok := p.answers[f.Index]
	if !ok || kind != f.Kind {
		return false
	}
	delete(p.answers, f.Index)
	return true
}

// Fits says whether the program is one that a child has room for.
func (p *Program) Fits() bool { return len(p.message) <= programSize }

// Room is how many bytes from [Builder.Room] on a child has for files.
const Room = regionSize - programSize

// A Builder writes a program.
type Builder struct {
	base   uintptr
	round  int
	data   []byte // the program but for its ops
	ops    []op
	labels []Label
	now    Label
}

// NewBuilder begins the program of a round, for a child that puts programs at base.
func NewBuilder(base uintptr, round int) *Builder {
	return &Builder{base: base, round: round, data: make([]byte, headerSize, 4096)}
}

// Label is of all ops that follow.
func (b *Builder) Label(l Label) { b.now = l }

// Program is what was written.
func (b *Builder) Program() *Program {
	first := b.Bytes(nil) - b.base
	m := append(b.data, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(b.ops))), uintptr(len(b.ops))*opSize)...)
	h := header{size: uintptr(len(m)), first: first, count: uintptr(len(b.ops)), round: uintptr(b.round)}
	copy(m, bytesOf(&h))
	return &Program{m, b.labels, b.answers()}
}

func (b *Builder) answers() map[uint32]Kind {
	all := map[uint32]Kind{}
	for i, o := range b.ops {
		if o.call == answer {
			all[uint32(i)] = Kind(o.arg[0])
		}
	}
	return all
}

// Bytes adds data, and returns where the child has it: at a multiple of eight.
func (b *Builder) Bytes(data []byte) uintptr {
	for len(b.data)%8 != 0 {
		b.data = append(b.data, 0)
	}
	at := b.base + uintptr(len(b.data))
	b.data = append(b.data, data...)
	return at
}

// Space is as many bytes of zero.
func (b *Builder) Space(size int) uintptr { return b.Bytes(make([]byte, size)) }

// Text is a string as system calls take it. One that holds a NUL fails there.
func (b *Builder) Text(s string) uintptr {
	if strings.IndexByte(s, 0) >= 0 {
		b.Fail(syscall.EINVAL)
	}
	at := b.base + uintptr(len(b.data))
	b.data = append(append(b.data, s...), 0)
	return at
}

// Texts is a list of strings as execve(2) takes it.
func (b *Builder) Texts(list []string) uintptr {
	at := make([]uint64, len(list)+1)
	for i, s := range list {
		at[i] = uint64(b.Text(s))
	}
	return b.Words(at...)
}

// Words are numbers of 64 bits.
func (b *Builder) Words(words ...uint64) uintptr {
	data := make([]byte, 0, 8*len(words))
	for _, w := range words {
		data = binary.NativeEndian.AppendUint64(data, w)
	}
	return b.Bytes(data)
}

// Halves are numbers of 32 bits.
func (b *Builder) Halves(halves ...uint32) uintptr {
	data := make([]byte, 0, 4*len(halves))
	for _, w := range halves {
		data = binary.NativeEndian.AppendUint32(data, w)
	}
	return b.Bytes(data)
}

// Room is where the child has room for files: Room bytes, which no program touches.
func (b *Builder) Room() uintptr { return b.base + programSize }

// An Op is one step of a program, and can be said more of.
type Op struct {
	b  *Builder
	at int
}

func (b *Builder) add(call uint32, args ...uintptr) Op {
	o := op{call: call, status: uint8(b.now.Status)}
	copy(o.arg[:], args)
	b.ops = append(b.ops, o)
	b.labels = append(b.labels, b.now)
	return Op{b, len(b.ops) - 1}
}

// Call is a system call by its number.
func (b *Builder) Call(number uintptr, args ...uintptr) Op { return b.add(uint32(number), args...) }

// Check fails with errno unless those of the 32 bits at addr that are in mask are
// want.
func (b *Builder) Check(addr uintptr, mask, want uint32, errno syscall.Errno) Op {
	return b.add(check, addr, uintptr(mask), uintptr(want), uintptr(errno))
}

// Within fails with errno unless each of some numbers of 32 bits at these is among as
// many at those.
func (b *Builder) Within(these, those uintptr, count int, errno syscall.Errno) Op {
	return b.add(within, these, those, uintptr(count), uintptr(errno))
}

// Equal fails with errno unless the slot holds want.
func (b *Builder) Equal(slot int, want uintptr, errno syscall.Errno) Op {
	return b.add(compare, uintptr(slot), want, uintptr(errno)).Take(0)
}

// Equal2 fails with errno unless two slots hold the same.
func (b *Builder) Equal2(slot, other int, errno syscall.Errno) Op {
	return b.add(compare, uintptr(slot), uintptr(other), uintptr(errno)).Take(0, 1)
}

// Fail fails with errno.
func (b *Builder) Fail(errno syscall.Errno) { b.add(compare, 0, 1, uintptr(errno)) }

// Skip goes on where p is.
func (b *Builder) Skip(p *Place) { b.add(compare, 0, 0).Then(p) }

// Store sets the 32 bits at addr.
func (b *Builder) Store(addr uintptr, value uint32) { b.add(store, addr, uintptr(value)) }

// Load puts the 64 bits at addr into a slot.
func (b *Builder) Load(addr uintptr, slot int) { b.add(load, addr).Keep(slot) }

// Least makes the 64 bits at addr no larger than those at limit.
func (b *Builder) Least(addr, limit uintptr) { b.add(least, addr, limit) }

// ReadAll reads the file whose number is in a slot to its end, to addr. One of size
// bytes or more fails with EFBIG. The result is how many there were.
func (b *Builder) ReadAll(slot int, addr uintptr, size int) Op {
	return b.add(readAll, uintptr(slot), addr, uintptr(size)).Take(0)
}

// Answer sends a frame whose value is in a slot, and whose errno is the last that was
// allowed, and returns the index that the frame has.
func (b *Builder) Answer(k Kind, slot int) (index int) {
	return b.add(answer, uintptr(k), uintptr(slot)).Take(1).at
}

// AnswerValue sends a frame.
func (b *Builder) AnswerValue(k Kind, value uint64) { b.add(answer, uintptr(k), uintptr(value)) }

// Again ends the program of a round that is not the last.
func (b *Builder) Again() { b.add(again) }

func (o Op) op() *op { return &o.b.ops[o.at] }

// Allow makes errnos no failure, four at most. After one, the result is -1.
func (o Op) Allow(errnos ...syscall.Errno) Op {
	for i, e := range errnos {
		o.op().allow[i] = uint8(e)
	}
	return o
}

// AllowAny makes no errno a failure.
func (o Op) AllowAny() Op {
	o.op().allow[0] = anyErrno
	return o
}

// Keep puts the result into a slot, from 1 on; 0 is the socket.
func (o Op) Keep(slot int) Op {
	o.op().keep = uint8(slot + 1)
	return o
}

// Take says which of the first three arguments are numbers of slots.
func (o Op) Take(args ...int) Op {
	for _, i := range args {
		o.op().take |= 1 << i
	}
	return o
}

// Then goes on where p is if the op succeeds, Else if it fails as it may.
func (o Op) Then(p *Place) Op {
	p.from = append(p.from, jump{o.at, false})
	return o
}

// Else: see Then.
func (o Op) Else(p *Place) Op {
	p.from = append(p.from, jump{o.at, true})
	return o
}

// A Place is one further on in a program.
type Place struct{ from []jump }

type jump struct {
	at   int
	miss bool
}

// Here is where p is.
func (b *Builder) Here(p *Place) {
	for _, j := range p.from {
		n := len(b.ops) - j.at - 1
		if n < 0 || n > 255 {
			panic("a program jumps too far") // whoever wrote it did not run it
		}
		if j.miss {
			b.ops[j.at].miss = uint8(n)
		} else {
			b.ops[j.at].skip = uint8(n)
		}
	}
}
