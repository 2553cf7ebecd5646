// Package starts measures what it takes to start a process: by fork and exec as
// package syscall has them, which nothing can be much quicker than, by the template
// that supervisord has for it, and by all that a launcher does. Each way is tried
// from processes of several sizes, as a supervisord grows with what it runs. All
// take turns of a fraction of a second, so that whatever else the machine does is
// shared by all.
package starts

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/supervisord-go/supervisord/bench/rig"
	"github.com/supervisord-go/supervisord/bench/turn"
)

// Options say what is measured.
type Options struct {
	Starts  int    // of each row
	Turn    int    // starts of a row before the next row has its turn
	Sizes   []int  // of the process that starts others, in megabytes
	AtOnce  []int  // starts that are under way at a time
	Program string // what is started, an ELF file that ends by itself; "": the least that there can be

	Say func(format string, args ...any)
}

// The most of what a command line may ask for, beyond which a machine has other
// troubles than those that are measured.
const (
	mostMegabytes = 4 << 10
	mostAtOnce    = 256
)

// Check says what is wrong with options as somebody gave them, by the names that they
// have on the command line.
func (o Options) Check() error {
	switch {
	case o.Starts < 1:
		return fmt.Errorf("-n %d: one start of each row is the least", o.Starts)
	case o.Turn < 1:
		return fmt.Errorf("-turn %d: one start is the least", o.Turn)
	case len(o.Sizes) == 0 || slices.Min(o.Sizes) < 1 || slices.Max(o.Sizes) > mostMegabytes:
		return fmt.Errorf("-sizes %v: they are from 1 to %d megabytes", o.Sizes, mostMegabytes)
	case len(o.AtOnce) == 0 || slices.Min(o.AtOnce) < 1 || slices.Max(o.AtOnce) > mostAtOnce:
		return fmt.Errorf("-at-once %v: they are from 1 to %d", o.AtOnce, mostAtOnce)
	}
	return nil
}

var ways = []string{turn.Exec, turn.Template, turn.Launcher, turn.Sessions}

// A Kit is what is run: the program that starts others.
type Kit struct{ dir string }

// Build builds a kit from the module that the working directory is in. The caller
// removes it. A starter is built without cgo, as supervisord is: the template of one
// with cgo keeps all of its memory, and costs more.
func Build(ctx context.Context) (*Kit, error) {
	dir, err := rig.TempDir()
	if err != nil {
		return nil, err
	}
	k := &Kit{dir}
	if err := rig.BuildPackages(ctx, dir, rig.Module+"/bench/starter"); err != nil {
		return nil, errors.Join(err, k.Remove())
	}
	return k, nil
}

// Remove removes the kit, and ends what runs of it. Nothing should.
func (k *Kit) Remove() error { return errors.Join(rig.Sweep(k.dir), os.RemoveAll(k.dir)) }

// Run measures. The error is for what could not be measured to its end; what was
// found until then is in the report. Nothing that it has started is left.
func (k *Kit) Run(ctx context.Context, o Options) (r *Report, err error) {
	r = &Report{Starts: o.Starts, Turn: o.Turn}
	dir, err := os.MkdirTemp(k.dir, "run")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, rig.Sweep(dir), os.RemoveAll(dir)) }()
	b := &bed{Options: o, Kit: k, dir: dir, report: r}
	if err := b.prepare(); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.open(ctx); err != nil {
		return r, err
	}
	err = b.measure(ctx)
	r.Whole = err == nil
	return r, err
}

// A bed is all that takes part.
type bed struct {
	Options
	*Kit
	dir, program string
	starters     []*starter
	report       *Report
}

// prepare makes the program that is started.
func (b *bed) prepare() (err error) {
	name, text := "exits", []byte(nil)
	if b.Program == "" {
		text, err = least()
	} else {
		name = filepath.Base(b.Program)
		text, err = program(b.Program)
	}
	if err != nil {
		return err
	}
	b.report.Program, b.report.Size = name, len(text)
	b.program = filepath.Join(b.dir, "program", name)
	return errors.Join(os.Mkdir(filepath.Dir(b.program), 0o755), os.WriteFile(b.program, text, 0o755))
}

// open starts a starter for each way and size, with a row for each number at once.
func (b *bed) open(ctx context.Context) error {
	for _, way := range ways {
		for _, size := range b.Sizes {
			s, hello, err := b.starter(ctx, way, size)
			if err != nil {
				return err
			}
			if hello.Without != "" {
				b.report.Without = append(b.report.Without, way+": "+hello.Without)
				break
			}
			b.report.Template = max(b.report.Template, hello.Template)
			for _, n := range b.AtOnce {
				b.report.Rows = append(b.report.Rows, &Row{Way: way, Size: size, RSS: hello.RSS, AtOnce: n, starter: s})
			}
		}
	}
	return nil
}

// measure gives each row its turns, forwards and backwards by turns: so none always
// comes after the same other.
func (b *bed) measure(ctx context.Context) error {
	order := slices.Clone(b.report.Rows)
	said := time.Now()
	for done := 0; done < b.Starts; done += b.Turn {
		for _, row := range order {
			if err := ctx.Err(); err != nil {
				return err
			}
			result, err := row.starter.ask(ctx, turn.Order{N: min(b.Turn, b.Starts-done), AtOnce: row.AtOnce})
			if err != nil {
				return fmt.Errorf("%s, %d MB: %w", row.Way, row.Size, err)
			}
			row.add(result)
		}
		slices.Reverse(order)
		if time.Since(said) > 10*time.Second {
			b.Say("%d of %d starts of each row", done+b.Turn, b.Starts)
			said = time.Now()
		}
	}
	return nil
}

func (b *bed) stop() (err error) {
	for _, s := range b.starters {
		err = errors.Join(err, s.stop())
	}
	return err
}
