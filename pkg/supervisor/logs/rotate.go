package logs

import (
	"cmp"
	"errors"
	"io/fs"
	"strconv"
	"time"
)

// What was rotated is NAME.log.1 (the latest) to NAME.log.N, each with its
// NAME.log.K.idx; compressed, NAME.log.K.gz, while the index stays and tells of
// the text. A number has a log before it has an index, so whoever dies here
// leaves a log without its index, and never one with another's.

// suffixes are the files of one number, the index last.
var suffixes = []string{"", ".gz", ".idx"}

func (k *keeper) past(n int) string { return k.name + "." + strconv.Itoa(n) }

// makeRoom rotates, and says whether the current file is empty now. A failure is
// not tried again for a while.
func (k *keeper) makeRoom() bool {
	k.flush()
	if k.log == nil || k.now().Before(k.rotateAt) {
		return false
	}
	k.shut()
	err := k.rotate()
	k.reopenAt = time.Time{}
	if !k.ready() {
		return false
	}
	if k.full = nil; k.size > 0 {
		k.full = k.fault("rotate", k.name, cmp.Or(err, errors.New("another file took its place")))
		k.rotateAt = k.now().Add(retryAfter)
		return false
	}
	k.compress()
	return true
}

func (k *keeper) rotate() error {
	keep := max(k.spec.MaxFiles, 0)
	for n := keep; k.remove(n); n++ {
	}
	if keep == 0 {
		return nil
	}
	for n := keep - 1; n >= 1; n-- {
		for _, s := range suffixes {
			if err := k.move(k.past(n)+s, k.past(n+1)+s); err != nil {
				return err
			}
		}
	}
	if err := k.move(k.name, k.past(1)); err != nil {
		return err
	}
	return k.move(k.name+".idx", k.past(1)+".idx")
}

// remove removes the files of a number, 0 being the current ones, and says
// whether there were any.
func (k *keeper) remove(n int) (any bool) {
	name := k.past(n)
	if n == 0 {
		name = k.name
	}
	for _, s := range suffixes {
		any = k.dir.Remove(name+s) == nil || any
	}
	return any
}

// move renames what may not be there.
func (k *keeper) move(from, to string) error {
	if err := k.dir.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
