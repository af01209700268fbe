#!/usr/bin/env python3
"""Asks a real Cassandra for the golden answers of the tests in this directory.

    oracle.py HOST [PORT] [NAME ...]

reads schema.cql and, for each NAME, NAME.txt and writes NAME.golden: what PREPARE answers for prepare and lwtprepare, what
executing answers for script, suites, lwt and counters; all of them without a NAME. It speaks the native protocol, version 4, by
itself, so that codes, texts, types and values are those on the wire. It creates keyspaces that begin with plan_ and drops
them at the end.
"""
import os
import re
import socket
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


CHANGES_SYSTEM = re.compile(r'(?i)\b(into|update|from|truncate(\s+table|\s+columnfamily)?)\s+"?system|^\s*use\s+"?system')


def guard(text):
    """Ends the program before a statement that would change rows of a system keyspace: Cassandra without authentication
    does it, and cannot be believed about its system tables afterwards."""
    if not re.match(r'(?i)\s*(select|describe|desc|list)\b', text) and CHANGES_SYSTEM.search(text):
        sys.exit('not sent: ' + text)


class Client:
    def __init__(self, host, port):
        self.sock = socket.create_connection((host, port))
        self.request(1, struct.pack('>H', 1) + self.string('CQL_VERSION') + self.string('3.4.7'))

    @staticmethod
    def string(s):
        b = s.encode()
        return struct.pack('>H', len(b)) + b

    @staticmethod
    def long_string(s):
        b = s.encode()
        return struct.pack('>I', len(b)) + b

    def read(self, n):
        out = b''
        while len(out) < n:
            part = self.sock.recv(n - len(out))
            if not part:
                raise EOFError
            out += part
        return out

    def request(self, opcode, body):
        self.sock.sendall(struct.pack('>BBhBI', 4, 0, 1, opcode, len(body)) + body)
        _, flags, _, op, length = struct.unpack('>BBhBI', self.read(9))
        body = self.read(length)
        warnings = []
        if flags & 8:
            n, = struct.unpack_from('>H', body)
            p = 2
            for _ in range(n):
                ln, = struct.unpack_from('>H', body, p)
                warnings.append(body[p + 2:p + 2 + ln].decode())
                p += 2 + ln
            body = body[p:]
        if op == 0:
            code, n = struct.unpack_from('>iH', body)
            return ('error', code, body[6:6 + n].decode())
        return ('ok', op, body, warnings)

    def prepare(self, text):
        return self.request(9, self.long_string(text))

    def query(self, text, values=None, page=None):
        guard(text)
        flags = (1 if values else 0) | (4 if page else 0)
        body = self.long_string(text) + struct.pack('>HB', 1, flags)
        if values:
            body += struct.pack('>H', len(values))
            for v in values:
                if v is None:
                    body += struct.pack('>i', -1)
                elif v == 'unset':
                    body += struct.pack('>i', -2)
                else:
                    body += struct.pack('>i', len(v)) + v
        if page:
            body += struct.pack('>i', page)
        return self.request(7, body)


class Reader:
    def __init__(self, b):
        self.b, self.p = b, 0

    def take(self, n):
        self.p += n
        return self.b[self.p - n:self.p]

    def short(self):
        return struct.unpack('>H', self.take(2))[0]

    def int(self):
        return struct.unpack('>i', self.take(4))[0]

    def string(self):
        return self.take(self.short()).decode()

    def type(self):
        """Returns the bytes of an [option], in hex."""
        at = self.p
        self.skip_type()
        return self.b[at:self.p].hex()

    def skip_type(self):
        kind = self.short()
        if kind == 0:
            self.string()
        elif kind in (0x20, 0x22):
            self.skip_type()
        elif kind == 0x21:
            self.skip_type()
            self.skip_type()
        elif kind == 0x30:
            self.string()
            self.string()
            for _ in range(self.short()):
                self.string()
                self.skip_type()
        elif kind == 0x31:
            for _ in range(self.short()):
                self.skip_type()

    def columns(self, flags, n):
        if flags & 4:
            return []
        if flags & 1:
            ks, table = self.string(), self.string()
        out = []
        for _ in range(n):
            if not flags & 1:
                ks, table = self.string(), self.string()
            name = self.string()
            out.append((ks + '.' + table, name, self.type()))
        return out


def show(cols):
    return ['%s %s %s' % (t, ty, name) for t, name, ty in cols]


def prepared(client, text):
    answer = client.prepare(text)
    if answer[0] == 'error':
        return ['error %04x %s' % (answer[1], answer[2].replace('\n', '\\n'))]
    r = Reader(answer[2])
    r.int()
    r.take(r.short())
    flags, n, pk = r.int(), r.int(), r.int()
    indexes = [r.short() for _ in range(pk)]
    out = ['ok pk %s' % ','.join(map(str, indexes))]
    out += ['bind ' + c for c in show(r.columns(flags, n))]
    flags, n = r.int(), r.int()
    out += ['column ' + c for c in show(r.columns(flags, n))]
    return out


def run(client, text, values):
    answer = client.query(text, values)
    if answer[0] == 'error':
        return ['error %04x %s' % (answer[1], answer[2].replace('\n', '\\n'))]
    out = ['warning ' + w for w in answer[3]]
    r = Reader(answer[2])
    if r.int() != 2:
        return ['ok'] + out
    flags, n = r.int(), r.int()
    if flags & 2:
        r.take(r.int())
    cols = r.columns(flags, n)
    out = ['rows'] + out
    out += ['column ' + c for c in show(cols)]
    for _ in range(r.int()):
        cells = []
        for _ in range(n):
            length = r.int()
            cells.append('null' if length < 0 else '0x' + r.take(length).hex())
        out.append('row ' + ' '.join(cells))
    return out


def statements(name):
    """Yields (statement, values) of a file: one statement per line, values on lines that begin with >."""
    lines = [l.rstrip('\n') for l in open(os.path.join(HERE, name))]
    for i, line in enumerate(lines):
        if not line or line.startswith('#') or line.startswith('>'):
            continue
        given = False
        for l in lines[i + 1:]:
            if not l.startswith('>'):
                break
            given = True
            yield line, parse_values(l[1:]), l
        if not given:
            yield line, None, None


def parse_values(s):
    out = []
    for w in s.split():
        if w == 'null':
            out.append(None)
        elif w == 'unset':
            out.append('unset')
        elif w.startswith('0x'):
            out.append(bytes.fromhex(w[2:]))
        elif re.fullmatch(r'-?\d+', w):
            out.append(struct.pack('>i', int(w)))
        elif re.fullmatch(r'-?\d+L', w):
            out.append(struct.pack('>q', int(w[:-1])))
        else:
            out.append(w.strip("'").encode())
    return out


def keyspaces(client, drop):
    for ks in ('plan_o', 'plan_s'):
        client.query('DROP KEYSPACE IF EXISTS ' + ks)
    if drop:
        return
    for text, _, _ in statements('schema.cql'):
        answer = client.query(text)
        if answer[0] == 'error':
            sys.exit('%s: %s' % (text, answer[2]))


def main():
    client = Client(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 9042)
    for name in sys.argv[3:] or ['prepare', 'lwtprepare', 'script', 'suites', 'lwt', 'counters']:
        keyspaces(client, False)
        with open(os.path.join(HERE, name + '.golden'), 'w') as f:
            for text, values, raw in statements(name + '.txt'):
                head = [text] + ([raw] if raw else [])
                answer = prepared(client, text) if name.endswith('prepare') else run(client, text, values)
                f.write('\n'.join(head + ['\t' + l for l in answer]) + '\n')
    keyspaces(client, True)


main()
