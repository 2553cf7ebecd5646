package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// numbers sees to it that no generation, invocation or job ever gets a number that
// another has had: not after a reboot, a crash of the machine, or when a service
// that was removed is named anew. The state directory says up to where numbers may
// have been used. They are taken in blocks: the end of a block is on disk before
// its first number is used, and the next is written in the background when half of
// one is gone, so that nobody waits for a disk. A disk that cannot be written
// holds nothing up; it is said, and tried again with the next block. An orderly
// end writes the numbers themselves, so that nothing is left out.
type numbers struct {
	dir   *safepath.Dir
	fault func(error)
	dirty chan struct{} // has room for one: a new block is needed
	done  chan struct{}

	mu   sync.Mutex
	used reserved // the last ones
	gone []string // of them, services that are no more, as they went
	kept reserved // what the file says
	err  error    // why it could not be written

	written chan struct{} // closed when that was tried again
}

// reserved is the file. A mark is the last number that may have been used.
type reserved struct {
	Jobs     unit.JobID      `json:"jobs"`
	Services map[string]mark `json:"services"`
	Others   mark            `json:"others"` // of services that were forgotten: where one of which nothing is known begins
}

type mark struct {
	Gen unit.Generation `json:"generation"`
	Inv unit.Invocation `json:"invocation"`

	Unsure bool `json:"unsure,omitempty"` // the runtime directory may not know the last ones
}

const (
	numbersFile = "numbers.json"
	maxNumbers  = 4 << 20 // bytes
	block       = 1000
	jobBlock    = 1 << 20
	maxGone     = 1 << 13 // services that are no more, whose numbers are kept
)

// openNumbers reads what there is. What cannot be read counts as nothing.
func openNumbers(dir *safepath.Dir, fault func(error)) *numbers {
	n := &numbers{dir: dir, fault: fault, dirty: make(chan struct{}, 1), done: make(chan struct{}), written: make(chan struct{})}
	if err := n.read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		fault(fmt.Errorf("cannot read which numbers were used: %w", err))
	}
	if n.kept.Services == nil {
		n.kept.Services = map[string]mark{}
	}
	n.used = reserved{Jobs: n.kept.Jobs, Services: map[string]mark{}, Others: n.kept.Others}
	go n.writeWhenDirty()
	return n
}

func (n *numbers) read() error {
	f, err := n.dir.Open(numbersFile, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxNumbers))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, &n.kept)
}

// jobs is the last job that may have been.
func (n *numbers) jobs() unit.JobID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.used.Jobs
}

// begin says where the numbers of services begin, given what the runtime directory
// knows of each, and reserves a block for all of them. A second begin waits for a
// write that includes its own.
func (n *numbers) begin(states map[string]unit.Service) {
	if len(states) == 0 {
		return
	}
	n.mu.Lock()
	for name, s := range states {
		was := n.of(name)
		if s.LastInv == 0 || was.Unsure {
			s.LastGen, s.LastInv = max(s.LastGen, was.Gen), max(s.LastInv, was.Inv)
		}
		states[name] = s
		n.gone = slices.DeleteFunc(n.gone, func(gone string) bool { return gone == name })
		n.used.Services[name] = mark{Gen: s.LastGen, Inv: s.LastInv}
	}
	written := n.written
	n.mu.Unlock()
	late := time.After(slowDisk)
	for range 2 { // a write that was in progress does not have them
		n.wake()
		select {
		case <-written:
		case <-late:
			return
		}
		var done bool
		if done, written = n.cover(states); done {
			return
		}
	}
}

// cover says whether the disk has more than the numbers of states, or cannot be
// written, and when it will next have more.
func (n *numbers) cover(states map[string]unit.Service) (done bool, written chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, s := range states {
		k := n.kept.Services[name]
		if n.err == nil && (k.Gen <= s.LastGen || k.Inv <= s.LastInv) {
			return false, n.written
		}
	}
	return true, nil
}

// of is what is known of a service. It needs n.mu.
func (n *numbers) of(name string) mark {
	if was, known := n.used.Services[name]; known {
		return was
	}
	if was, known := n.kept.Services[name]; known {
		return was
	}
	return n.used.Others
}

// forget has the numbers of a service that is no more kept for as long as there are
// not too many of them. Those of the others live on in one mark for all.
func (n *numbers) forget(service string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Contains(n.gone, service) {
		n.gone = append(n.gone, service)
	}
	if len(n.gone) > maxGone {
		n.lump(n.used.Services[n.gone[0]])
		delete(n.used.Services, n.gone[0])
		n.gone = n.gone[1:]
	}
}

// lump adds to the mark of all others. It needs n.mu.
func (n *numbers) lump(m mark) {
	n.used.Others.Gen, n.used.Others.Inv = max(n.used.Others.Gen, m.Gen), max(n.used.Others.Inv, m.Inv)
}

// slowDisk is how long somebody waits for new numbers to be on disk.
const slowDisk = 2 * time.Second

// note remembers the last numbers of a service.
func (n *numbers) note(service string, g unit.Generation, i unit.Invocation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.used.Services[service] = mark{Gen: g, Inv: i}
	if k := n.kept.Services[service]; g+block/2 > k.Gen || i+block/2 > k.Inv {
		n.wake()
	}
}

// unsure: the last numbers of a service could not be stored in the runtime directory.
func (n *numbers) unsure(service string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	u := n.used.Services[service]
	u.Unsure = true
	n.used.Services[service] = u
	if !n.kept.Services[service].Unsure {
		n.wake()
	}
}

// job remembers the last job.
func (n *numbers) job(id unit.JobID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.used.Jobs = max(n.used.Jobs, id); id+jobBlock/2 > n.kept.Jobs {
		n.wake()
	}
}

func (n *numbers) wake() {
	select {
	case n.dirty <- struct{}{}:
	default:
	}
}

// Err is why the next numbers are not reserved, or nil.
func (n *numbers) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// close writes the numbers themselves.
func (n *numbers) close(last unit.JobID) {
	close(n.dirty)
	<-n.done
	n.mu.Lock()
	n.used.Jobs = max(n.used.Jobs, last)
	exact := n.marks(0, 0)
	n.mu.Unlock()
	n.store(exact)
}

func (n *numbers) writeWhenDirty() {
	defer close(n.done)
	for range n.dirty {
		n.write()
	}
}

// write reserves the next blocks.
func (n *numbers) write() {
	n.mu.Lock()
	next := n.marks(block, jobBlock)
	n.mu.Unlock()
	n.store(next)
}

// marks are the last numbers and so many more. What is not run now keeps its own.
// It needs n.mu.
func (n *numbers) marks(more int, jobs unit.JobID) reserved {
	r := reserved{Jobs: n.used.Jobs + jobs, Services: map[string]mark{}}
	for name, k := range n.kept.Services {
		if len(r.Services) < maxGone {
			r.Services[name] = k
		} else {
			n.lump(k)
		}
	}
	r.Others = n.used.Others
	for name, u := range n.used.Services {
		r.Services[name] = mark{u.Gen + unit.Generation(more), u.Inv + unit.Invocation(more), u.Unsure && more > 0}
	}
	return r
}

func (n *numbers) store(r reserved) {
	err := n.put(r)
	n.mu.Lock()
	fresh := err != nil && n.err == nil
	if n.err = err; err == nil {
		n.kept = r
	}
	close(n.written)
	n.written = make(chan struct{})
	n.mu.Unlock()
	if fresh {
		n.fault(err)
	}
}

func (n *numbers) put(r reserved) error {
	text, err := json.Marshal(r)
	if err == nil {
		err = n.replace(text)
	}
	if err != nil {
		return fmt.Errorf("cannot keep which numbers were used: %w", err)
	}
	return nil
}

func (n *numbers) replace(text []byte) error {
	n.dir.Again() // or Open says what is wrong
	f, err := n.dir.Open(numbersFile+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return n.dir.Rename(numbersFile+".tmp", numbersFile)
}
