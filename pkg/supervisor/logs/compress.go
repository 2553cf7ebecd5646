package logs

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"sync/atomic"
)

// compressing bounds the compressions of the whole process.
var compressing = make(chan struct{}, 1)

// A squeeze is a rotated file on its way to a compressed one. Its goroutine
// only reads the one and writes the other; names are the keeper's, since files
// may be rotated meanwhile.
type squeeze struct {
	from  *os.File
	to    written
	inode uint64 // of from
	stop  atomic.Bool
}

// written is a file that is complete once Sync and Close have succeeded.
type written interface {
	io.WriteCloser
	Sync() error
}

var errAborted = errors.New("it was aborted")

func (q *squeeze) abort() { q.stop.Store(true) }

// compress begins to compress the oldest file that is not yet, unless it does
// so already; when that is done the next follows.
func (k *keeper) compress() {
	if !k.spec.Compress || !k.spec.File || k.squeeze != nil || k.closed {
		return
	}
	for n := k.spec.MaxFiles; n >= 1; n-- {
		from, err := k.dir.Open(k.past(n), os.O_RDONLY, 0)
		if err != nil {
			continue
		}
		k.begin(from)
		return
	}
}

func (k *keeper) begin(from *os.File) {
	q := &squeeze{from: from}
	var err error
	if q.inode, err = inode(int(from.Fd())); err == nil {
		q.to, err = k.dir.open(k.halfway(), os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	}
	if err != nil {
		from.Close()
		return
	}
	k.squeeze = q
	go func() {
		err := q.run()
		k.again(func() { k.finish(q, err) })
	}()
}

// halfway is the name of a file that is not complete.
func (k *keeper) halfway() string { return k.name + ".gz.tmp" }

func (q *squeeze) run() error {
	compressing <- struct{}{}
	defer func() { <-compressing }()
	defer q.from.Close()
	err := q.write()
	return errors.Join(err, q.to.Close())
}

// write has everything on disk when it succeeds, since the original is removed then. A
// file system with delayed allocation or a quota, and NFS, may refuse only now what
// write(2) took.
func (q *squeeze) write() error {
	z, _ := gzip.NewWriterLevel(q.to, gzip.BestSpeed)
	if _, err := io.Copy(z, q); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return q.to.Sync()
}

// Read is from's, until the squeeze is aborted.
func (q *squeeze) Read(b []byte) (int, error) {
	if q.stop.Load() {
		return 0, errAborted
	}
	return q.from.Read(b)
}

// finish puts the compressed file in the place of the other, wherever that is now.
func (k *keeper) finish(q *squeeze, err error) {
	k.squeeze = nil
	if k.closed {
		return // the directory may be closed; the next supervisord overwrites the file
	}
	n := k.number(q.inode)
	if err == nil && n > 0 {
		if err = k.dir.Rename(k.halfway(), k.past(n)+".gz"); err == nil {
			err = k.dir.Remove(k.past(n))
		}
	}
	if err != nil || n == 0 {
		k.dir.Remove(k.halfway())
	}
	if err == nil {
		k.compress()
	}
}

// number finds a rotated file; 0: it is gone.
func (k *keeper) number(ino uint64) int {
	for n := 1; n <= k.spec.MaxFiles; n++ {
		f, err := k.dir.Open(k.past(n), os.O_RDONLY, 0)
		if err != nil {
			continue
		}
		got, err := inode(int(f.Fd()))
		f.Close()
		if err == nil && got == ino {
			return n
		}
	}
	return 0
}
