package notify

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/supervisord-go/supervisord/pkg/supervisor/safepath"
)

// What a cleaner removes: the socket alone, or its directory, which is made again.
var removals = map[string]func(*testing.T, heard){
	"the socket": func(t *testing.T, h heard) { must(t, os.Remove(h.Path())) },
	"its directory": func(t *testing.T, h heard) {
		path := filepath.Dir(h.Path())
		must(t, os.RemoveAll(path))
		d, err := safepath.MakeDir(path, 0o711)
		must(t, err)
		must(t, h.dir.Become(d))
	},
	"the socket, for something else": func(t *testing.T, h heard) {
		must(t, os.Remove(h.Path()))
		must(t, os.WriteFile(h.Path(), nil, 0o600))
	},
}

// A service whose socket was removed is heard again, or its watchdog would end it.
func TestRenewedSocketIsHeard(t *testing.T) {
	for name, remove := range removals {
		t.Run(name, func(t *testing.T) {
			before := openFDs(t)
			h := listen(t, Options{GID: os.Getgid(), Access: everybody.Access})
			if renewed, err := h.Renew(); renewed || err != nil {
				t.Fatal("nothing was removed, and Renew says ", renewed, err)
			}
			for range 3 * maxFormer {
				remove(t, h)
				if err := send(h.Path(), "READY=1"); err == nil {
					t.Fatal("the socket is still there, so this tests nothing")
				}
				if renewed, err := h.Renew(); !renewed || err != nil {
					t.Fatal(renewed, err)
				}
				must(t, send(h.Path(), "READY=1"))
				if m := <-h.messages; !m.Notice.Ready {
					t.Errorf("got %+v", m)
				}
			}
			var st unix.Stat_t
			if must(t, unix.Lstat(h.Path(), &st)); st.Mode&0o777 != 0o660 || int(st.Gid) != os.Getgid() {
				t.Errorf("it has mode %o and group %d", st.Mode&0o777, st.Gid)
			}
			must(t, h.Close())
			if _, err := os.Lstat(h.Path()); !os.IsNotExist(err) {
				t.Error("it is still there after Close: ", err)
			}
			closed(t, before+1) // the test's directory
		})
	}
}

// What was sent before the removal comes first, whether or not anybody had read by
// then.
func TestRenewKeepsWhatWasSent(t *testing.T) {
	for _, started := range []bool{false, true} {
		h := bound(t, everybody)
		if started {
			h.Start(0, nil)
		}
		for _, text := range []string{"STATUS=1", "STATUS=2", "STATUS=3"} {
			must(t, send(h.Path(), text))
			must(t, os.Remove(h.Path()))
			if _, err := h.Renew(); err != nil {
				t.Fatal(err)
			}
		}
		must(t, send(h.Path(), "STATUS=4"))
		h.Start(0, nil)
		for _, want := range []string{"1", "2", "3", "4"} {
			if m := <-h.messages; m.Status == nil || *m.Status != want {
				t.Errorf("started %t: got %+v, not %s", started, m, want)
			}
		}
	}
}

// A path that is removed again and again, while nobody hears, costs no more and more.
func TestFormerPortsAreBounded(t *testing.T) {
	h := bound(t, everybody)
	before := openFDs(t)
	for range 5 * maxFormer {
		must(t, send(h.Path(), "STATUS=x"))
		must(t, os.Remove(h.Path()))
		if _, err := h.Renew(); err != nil {
			t.Fatal(err)
		}
	}
	closed(t, before+maxFormer)
}

func TestRenewAndClose(t *testing.T) {
	for range 50 {
		h := listen(t, everybody)
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for range 5 {
					os.Remove(h.Path())
					h.Renew()
				}
			})
		}
		all.Go(func() { h.Close() })
		all.Wait()
		<-h.over
		if renewed, err := h.Renew(); renewed || err != nil {
			t.Error(renewed, err)
		}
		if _, err := os.Lstat(h.Path()); !os.IsNotExist(err) {
			t.Fatal("it is there after Close: ", err)
		}
	}
}

// A socket that cannot be watched is refused: its reader would go round in circles.
func TestPortThatCannotBeWatched(t *testing.T) {
	f, err := os.Open("/proc/self/exe") // like a socket that is one too many
	if err != nil {
		t.Fatal(err)
	}
	if err := new(port).take(f); !errors.Is(err, errUnwatched) {
		t.Errorf("it says %v", err)
	}
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("it is still open: %v", err)
	}
}
