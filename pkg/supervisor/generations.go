package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// generations keeps the last generation of each service in the state directory,
// so that numbers go on where they were after a reboot. A number is of use to
// people alone, so nobody waits for it to be on disk: one goroutine writes what
// has come together since it last did.
type generations struct {
	dir   *safepath.Dir
	fault func(error)

	mu    sync.Mutex
	last  map[string]unit.Generation
	dirty chan struct{} // has room for one: something is to be written
	done  chan struct{}
}

const (
	generationsFile = "generations.json"
	maxGenerations  = 1 << 20 // bytes
)

// openGenerations reads what there is. What cannot be read counts as nothing.
func openGenerations(dir *safepath.Dir, fault func(error)) *generations {
	g := &generations{dir: dir, fault: fault, last: map[string]unit.Generation{}, dirty: make(chan struct{}, 1), done: make(chan struct{})}
	if err := g.read(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		fault(fmt.Errorf("cannot read the generations of the last boot: %w", err))
	}
	go g.writeWhenDirty()
	return g
}

func (g *generations) read() error {
	f, err := g.dir.Open(generationsFile, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxGenerations))
	if err != nil {
		return err
	}
	return json.Unmarshal(text, &g.last)
}

func (g *generations) of(service string) unit.Generation {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.last[service]
}

// note remembers a service's last generation.
func (g *generations) note(service string, last unit.Generation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last[service] == last {
		return
	}
	g.last[service] = last
	select {
	case g.dirty <- struct{}{}:
	default:
	}
}

// close writes what is yet to be written.
func (g *generations) close() {
	close(g.dirty)
	<-g.done
}

func (g *generations) writeWhenDirty() {
	defer close(g.done)
	for range g.dirty {
		if err := g.write(); err != nil {
			g.fault(fmt.Errorf("cannot keep the generations for the next boot: %w", err))
		}
	}
}

func (g *generations) write() error {
	g.mu.Lock()
	text, err := json.Marshal(g.last)
	g.mu.Unlock()
	if err != nil {
		return err
	}
	f, err := g.dir.Open(generationsFile+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return g.dir.Rename(generationsFile+".tmp", generationsFile)
}
