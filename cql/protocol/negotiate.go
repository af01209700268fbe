package protocol

import "fmt"

// UnsupportedVersion returns the error for a version that Helenus does not speak. Drivers step
// down when they find "unsupported protocol version" in it.
func UnsupportedVersion(v Version) *Error {
	return protocolErr("Invalid or unsupported protocol version (%d); supported versions are (%s, %s, %s)",
		uint8(v), V3, V4, V5)
}

// answerVersion returns the version to tell a client of version v something in: its own if that is
// spoken or if it is one of the two old ones, whose headers are of 8 bytes, else the newest.
func answerVersion(v Version) Version {
	if v.Supported() || v == 1 || v == 2 {
		return v
	}
	return MaxVersion
}

// AppendBadFrame appends the ERROR envelope that answers b. For clients of version 1 and 2 its
// header has the 8 bytes they expect: the stream id takes one.
func AppendBadFrame(dst []byte, b *BadFrame) []byte {
	if b.Version >= V3 {
		return AppendErrorFrame(dst, b.Version, b.Stream, b.Err)
	}
	body := AppendError(nil, V3, b.Err)
	dst = append(dst, byte(b.Version)|0x80, 0, byte(b.Stream), byte(OpError))
	return append(appendI32(dst, len(body)), body...)
}

// HighestCommon returns the version a client should use next after the server sent an ERROR in
// reply to version tried: the version of that reply if it is lower and spoken, else the next lower
// one. The error says that there is none left.
func HighestCommon(tried Version, reply Header) (Version, error) {
	if reply.Version < tried && reply.Version.Supported() {
		return reply.Version, nil
	}
	if next := min(tried, MaxVersion+1) - 1; next.Supported() {
		return next, nil
	}
	return 0, fmt.Errorf("protocol: no common version below %s", tried)
}
