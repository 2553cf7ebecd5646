package safepath

import (
	"time"

	"golang.org/x/sys/unix"
)

// A Stamp tells one state of a file from another without reading it: which file
// it is, its size, and when its text and its inode were last changed (inode(7)).
// Two stamps are equal only if nothing was written between them, but for writes
// that the clock of the file system is too coarse to tell apart; see [Stamp.Fresh].
// The zero Stamp is that of no file.
type Stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime time.Duration // since the epoch
}

// StampOf is the stamp of the file that path leads to, links followed. Who may
// write to it does not matter. It can wait as long as the file system does.
func StampOf(path string) (Stamp, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Stat(path, &st) }); err != nil {
		return Stamp{}, err
	}
	return stampOf(st), nil
}

// coarse is more than a tick of the clock that files are stamped by: that of the
// kernel has 10 ms at most, the one of a file server may differ from ours.
const coarse = 2 * time.Second

// Fresh says whether a file was changed so shortly before now that another change
// could have left it the same stamp. A file from the future is fresh.
func (s Stamp) Fresh(now time.Time) bool {
	return max(s.mtime, s.ctime) > time.Duration(now.UnixNano())-coarse
}

func stampOf(st unix.Stat_t) Stamp {
	return Stamp{uint64(st.Dev), st.Ino, st.Size, since(st.Mtim), since(st.Ctim)}
}

func since(t unix.Timespec) time.Duration { return time.Duration(t.Nano()) }
