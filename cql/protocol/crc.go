package protocol

import "hash/crc32"

// The checksums of v5 segments (native_protocol_v5.spec section 2.2).
const (
	crc24Init = 0x875060
	crc24Poly = 0x1974F0B

	// crc32Seed is the CRC-32 of FA 2D 55 CA, which every payload checksum goes on from.
	crc32Seed = 0x44777ED3
)

var crc24Table = makeCRC24Table()

func makeCRC24Table() (table [256]uint32) {
	for i := range table {
		crc := uint32(i) << 16
		for range 8 {
			crc <<= 1
			if crc&0x1000000 != 0 {
				crc ^= crc24Poly
			}
		}
		table[i] = crc
	}
	return table
}

// crc24 is the checksum of a segment header, over its bytes in the order they are sent.
func crc24(header []byte) uint32 {
	crc := uint32(crc24Init)
	for _, b := range header {
		crc = crc<<8&0xffffff ^ crc24Table[byte(crc>>16)^b]
	}
	return crc
}

// payloadCRC is the checksum of a segment payload, as it is sent.
func payloadCRC(payload []byte) uint32 {
	return crc32.Update(crc32Seed, crc32.IEEETable, payload)
}
