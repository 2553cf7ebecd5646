package config

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o640))
}

// A file that changes right after it was read, before the rest of the reading is
// done, was not loaded as it is now.
func TestFileThatChangesAfterItWasReadDiffers(t *testing.T) {
	for name, after := range map[string]string{
		"longer":           "[service.a]\n" + sleeper + "nice = 10\n",
		"of the same size": "[service.b]\n" + sleeper,
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{"main.toml": "[service.a]\n" + sleeper})
			l := newLoad(Options{Root: true})
			l.disk = true
			l.first(dir + "/main.toml")
			write(t, dir+"/main.toml", after)
			c, problems := l.finish()
			if c == nil || c.Services[0].Name != "a" {
				t.Fatal(problems)
			}
			if !c.FilesDiffer() {
				t.Error("another text is taken for the one that was read")
			}
		})
	}
}

// The clock that files are stamped by has ticks of some milliseconds.
func TestFileThatChangesWithinOneTickDiffers(t *testing.T) {
	dir := tree(t, map[string]string{"main.toml": ""})
	for range 100 {
		write(t, dir+"/main.toml", "[service.a]\n"+sleeper)
		c, problems := loader{Root: true}.load(t, dir)
		if c == nil || c.FilesDiffer() {
			t.Fatalf("unchanged, it differs: %v", problems)
		}
		write(t, dir+"/main.toml", "[service.b]\n"+sleeper)
		if !c.FilesDiffer() {
			t.Fatal("changed at once, it does not differ")
		}
	}
}

func TestFilesDifferSaysWhetherTheyAreWhatWasRead(t *testing.T) {
	for name, c := range map[string]struct {
		change func(dir string) error
		want   bool
	}{
		"nothing":                   {func(d string) error { return nil }, false},
		"it was just read":          {func(d string) error { _, err := os.ReadFile(d + "/s/a.toml"); return err }, false},
		"other text":                {func(d string) error { return os.WriteFile(d+"/main.toml", nil, 0o640) }, true},
		"it was touched":            {func(d string) error { return os.Chtimes(d+"/s/a.toml", time.Unix(1, 0), time.Unix(1, 0)) }, true},
		"it was replaced by a copy": {func(d string) error { return os.Rename(d+"/copy", d+"/s/a.toml") }, true},
		"the first file is gone":    {func(d string) error { return os.Remove(d + "/main.toml") }, true},
		"an included file is gone":  {func(d string) error { return os.Remove(d + "/s/a.toml") }, true},
		"one more is included":      {func(d string) error { return os.Rename(d+"/copy", d+"/s/b.toml") }, true},
		"an editor's file":          {func(d string) error { return os.Rename(d+"/copy", d+"/s/.a.toml.swp.toml") }, false},
		"one that is not included":  {func(d string) error { return os.Rename(d+"/copy", d+"/s/b.txt") }, false},
		"a link to another file":    {func(d string) error { return replaceByLink(d+"/link.toml", "copy") }, true},
		"what a link leads to":      {func(d string) error { return os.WriteFile(d+"/target", []byte("# "), 0o640) }, true},
		"the directory is gone":     {func(d string) error { return os.RemoveAll(d + "/s") }, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{
				"main.toml": "include = [\"s/*.toml\", \"link.toml\", \"none/*.toml\"]\n",
				"s/a.toml":  "[service.a]\n" + sleeper, "copy": "[service.a]\n" + sleeper, "target": "#",
			})
			must(t, os.Symlink("target", dir+"/link.toml"))
			conf, problems := loader{Root: true}.load(t, dir)
			if conf == nil {
				t.Fatal(problems)
			}
			must(t, c.change(dir))
			if got := conf.FilesDiffer(); got != c.want {
				t.Errorf("differ: %v", got)
			}
		})
	}
}

// Whoever mends what a start has left out is told that it is to be loaded.
func TestMendedIncludeDiffers(t *testing.T) {
	for name, c := range map[string]struct{ before, mend func(path string) error }{
		"a syntax error": {
			func(p string) error { return os.WriteFile(p, []byte("["), 0o640) },
			func(p string) error { return os.WriteFile(p, []byte("#"), 0o640) },
		},
		"others could write to it": {
			func(p string) error { return os.WriteFile(p, nil, 0o640) },
			func(p string) error { return os.Chmod(p, 0o600) },
		},
		"it was not there": {
			func(string) error { return nil },
			func(p string) error { return os.WriteFile(p, nil, 0o640) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tree(t, map[string]string{"main.toml": "include = [\"a.toml\"]\n"})
			must(t, c.before(dir+"/a.toml"))
			if name == "others could write to it" {
				must(t, os.Chmod(dir+"/a.toml", 0o666))
			}
			conf, problems := started(t, dir)
			if conf == nil || os.Geteuid() == 0 && len(conf.Degraded) != 1 {
				t.Fatal(problems)
			}
			if conf.FilesDiffer() {
				t.Error("it differs before it was mended")
			}
			must(t, c.mend(dir+"/a.toml"))
			if !conf.FilesDiffer() {
				t.Error("mended, it does not differ")
			}
		})
	}
}

func TestWhatWasDecodedFromATextNeverDiffers(t *testing.T) {
	if decoded(t, Options{Root: true}, "[service.a]\n"+sleeper).FilesDiffer() {
		t.Error("there are no files that could differ")
	}
}

func TestDiffIsNotAboutFiles(t *testing.T) {
	dir := tree(t, map[string]string{"main.toml": "[service.a]\n" + sleeper})
	a, _ := loader{Root: true}.load(t, dir)
	write(t, dir+"/main.toml", "# the same\n[service.a]\n"+sleeper)
	b, _ := loader{Root: true}.load(t, dir)
	if d := cmp.Diff(Changes{}, Diff(a, b)); d != "" {
		t.Error(d)
	}
}

// Of a file whose last change is long ago the stamp says all: it is read again once.
func TestFileIsReadAgainOnlyWhileItIsFresh(t *testing.T) {
	dir := tree(t, map[string]string{"main.toml": "[service.a]\n" + sleeper})
	synctest.Test(t, func(t *testing.T) {
		c, problems := loader{Root: true}.load(t, dir)
		if c == nil {
			t.Fatal(problems)
		}
		f := c.seen.files[dir+"/main.toml"]
		if c.FilesDiffer() || f.settled.Load() { // the clock of a bubble begins in 2000
			t.Error("a file from the future is not fresh")
		}
		time.Sleep(200 * 365 * 24 * time.Hour)
		if c.FilesDiffer() || !f.settled.Load() {
			t.Error("after years it is fresh")
		}
	})
}

// A dead file system costs whoever asks a second, and us one goroutine.
func TestFilesDifferNeverWaitsForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int32
		dead := make(chan struct{})
		s := newSnapshot()
		s.look = func() bool { looks.Add(1); <-dead; return false }
		c := &Config{seen: s}
		for range 3 {
			began := time.Now()
			if !c.FilesDiffer() || time.Since(began) != patience {
				t.Errorf("it does not differ, after %v", time.Since(began))
			}
		}
		if looks.Load() != 1 {
			t.Errorf("%d looks wait", looks.Load())
		}
		close(dead)
		synctest.Wait()
		if c.FilesDiffer() || looks.Load() != 2 {
			t.Errorf("it differs when the file system answers again; %d looks", looks.Load())
		}
	})
}

func TestManyAskAtOnceWhetherFilesDiffer(t *testing.T) {
	c, _ := loader{Root: true}.load(t, tree(t, map[string]string{"main.toml": "[service.a]\n" + sleeper}))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if c.FilesDiffer() {
				t.Error("it differs")
			}
		})
	}
	all.Wait()
}
