package cql

// kind is the type of a token. Keywords are ordered so that the classes of unreserved words are ranges.
type kind uint8

// The kinds of tokens.
const (
	tEOF    kind = iota
	tHidden      // white space and comments: only error messages look at them
	tIdent
	tQuoted
	tEmptyQuoted
	tString
	tInteger
	tFloat
	tBoolean
	tDuration
	tUUID
	tHex
	tQmark
	tRange
	tSemicolon
	tLParen
	tRParen
	tComma
	tLBracket
	tRBracket
	tLBrace
	tRBrace
	tColon
	tDot
	tEq
	tLt
	tLte
	tGt
	tGte
	tNeq
	tPlus
	tMinus
	tPlusEq
	tMinusEq
	tStar
	tSlash
	tPercent
	tExpr

	// Unreserved words that may be any name.
	kKeys
	kAs
	kCluster
	kClustering
	kCompact
	kStorage
	kTables
	kType
	kTypes
	kValues
	kMap
	kList
	kFiltering
	kPermission
	kPermissions
	kKeyspaces
	kAll
	kUser
	kUsers
	kRole
	kRoles
	kIdentity
	kSuperuser
	kNosuperuser
	kLogin
	kNologin
	kOptions
	kPassword
	kHashed
	kExists
	kCustom
	kTrigger
	kContains
	kInternals
	kOnly
	kStatic
	kFrozen
	kTuple
	kFunction
	kFunctions
	kAggregate
	kAggregates
	kSfunc
	kStype
	kFinalfunc
	kInitcond
	kReturns
	kLanguage
	kCalled
	kInput
	kLike
	kPer
	kPartition
	kGroup
	kDatacenters
	kCidrs
	kAccess
	kDefault
	kMbean
	kMbeans
	kReplace
	kUnset
	kMasked
	kUnmask
	kSelectMasked
	kVector
	kAnn

	// Native types: any name but that of a user type.
	kAscii
	kBigint
	kBlob
	kBoolean
	kCounter
	kDecimal
	kDouble
	kDuration
	kFloat
	kInet
	kInt
	kSmallint
	kText
	kTimestamp
	kTinyint
	kUuid
	kVarchar
	kVarint
	kTimeuuid
	kDate
	kTime

	// Unreserved words that may not be the name of a function (or type, but for KEY).
	kTtl
	kCount
	kWritetime
	kMaxwritetime
	kKey
	kCast
	kJson
	kDistinct

	// Reserved words.
	kSelect
	kFrom
	kWhere
	kAnd
	kEntries
	kFull
	kInsert
	kUpdate
	kWith
	kLimit
	kUsing
	kUse
	kSet
	kBegin
	kUnlogged
	kBatch
	kApply
	kTruncate
	kDelete
	kIn
	kCreate
	kSchema
	kKeyspace
	kColumnfamily
	kMaterialized
	kView
	kIndex
	kOn
	kTo
	kDrop
	kPrimary
	kInto
	kAlter
	kRename
	kAdd
	kOrder
	kBy
	kAsc
	kDesc
	kAllow
	kIf
	kIs
	kGrant
	kOf
	kRevoke
	kModify
	kAuthorize
	kDescribe
	kExecute
	kNorecursive
	kToken
	kNull
	kNot
	kPositiveNan
	kNegativeNan
	kPositiveInfinity
	kNegativeInfinity
	kOr

	kindCount
)

const (
	firstBasic   = kKeys
	lastBasic    = kAnn
	firstNative  = kAscii
	lastNative   = kTime
	firstSpecial = kTtl
	lastSpecial  = kDistinct
)

// basicUnreserved: may be any name.
func (k kind) basicUnreserved() bool { return k >= firstBasic && k <= lastBasic }

// nativeType: is the name of a native type.
func (k kind) nativeType() bool { return k >= firstNative && k <= lastNative }

// unreserved: may be a name of anything but functions and types.
func (k kind) unreserved() bool { return k >= firstBasic && k <= lastSpecial }

// identLike: can stand where an identifier is wanted.
func (k kind) identLike() bool { return k == tIdent || k == tQuoted || k.unreserved() }

// cidentLike: identLike or the empty quoted name, for columns.
func (k kind) cidentLike() bool { return k == tEmptyQuoted || k.identLike() }

// functionName: can stand where a function's name is wanted.
func (k kind) functionName() bool {
	return k == tIdent || k == tQuoted || k >= firstBasic && k <= lastNative || k == kToken || k == kCount
}

// typeName: can stand where a user type's name is wanted.
func (k kind) typeName() bool {
	return k == tIdent || k == tQuoted || k.basicUnreserved() || k == kKey
}

// name returns the kind as Cassandra's messages show it after "expecting".
func (k kind) name() string { return kindNames[k] }

var kindNames = [kindCount]string{
	tEOF:              "EOF",
	tIdent:            "IDENT",
	tQuoted:           "QUOTED_NAME",
	tEmptyQuoted:      "EMPTY_QUOTED_NAME",
	tString:           "STRING_LITERAL",
	tInteger:          "INTEGER",
	tFloat:            "FLOAT",
	tBoolean:          "BOOLEAN",
	tDuration:         "DURATION",
	tUUID:             "UUID",
	tHex:              "HEXNUMBER",
	tQmark:            "QMARK",
	tRange:            "RANGE",
	tSemicolon:        "';'",
	tLParen:           "'('",
	tRParen:           "')'",
	tComma:            "','",
	tLBracket:         "'['",
	tRBracket:         "']'",
	tLBrace:           "'{'",
	tRBrace:           "'}'",
	tColon:            "':'",
	tDot:              "'.'",
	tEq:               "'='",
	tLt:               "'<'",
	tLte:              "'<='",
	tGt:               "'>'",
	tGte:              "'>='",
	tNeq:              "'!='",
	tPlus:             "'+'",
	tMinus:            "'-'",
	tPlusEq:           "'+='",
	tMinusEq:          "'-='",
	tStar:             "'*'",
	tSlash:            "'/'",
	tPercent:          "'%'",
	tExpr:             "'expr('",
	kKeys:             "K_KEYS",
	kAs:               "K_AS",
	kCluster:          "K_CLUSTER",
	kClustering:       "K_CLUSTERING",
	kCompact:          "K_COMPACT",
	kStorage:          "K_STORAGE",
	kTables:           "K_TABLES",
	kType:             "K_TYPE",
	kTypes:            "K_TYPES",
	kValues:           "K_VALUES",
	kMap:              "K_MAP",
	kList:             "K_LIST",
	kFiltering:        "K_FILTERING",
	kPermission:       "K_PERMISSION",
	kPermissions:      "K_PERMISSIONS",
	kKeyspaces:        "K_KEYSPACES",
	kAll:              "K_ALL",
	kUser:             "K_USER",
	kUsers:            "K_USERS",
	kRole:             "K_ROLE",
	kRoles:            "K_ROLES",
	kIdentity:         "K_IDENTITY",
	kSuperuser:        "K_SUPERUSER",
	kNosuperuser:      "K_NOSUPERUSER",
	kLogin:            "K_LOGIN",
	kNologin:          "K_NOLOGIN",
	kOptions:          "K_OPTIONS",
	kPassword:         "K_PASSWORD",
	kHashed:           "K_HASHED",
	kExists:           "K_EXISTS",
	kCustom:           "K_CUSTOM",
	kTrigger:          "K_TRIGGER",
	kContains:         "K_CONTAINS",
	kInternals:        "K_INTERNALS",
	kOnly:             "K_ONLY",
	kStatic:           "K_STATIC",
	kFrozen:           "K_FROZEN",
	kTuple:            "K_TUPLE",
	kFunction:         "K_FUNCTION",
	kFunctions:        "K_FUNCTIONS",
	kAggregate:        "K_AGGREGATE",
	kAggregates:       "K_AGGREGATES",
	kSfunc:            "K_SFUNC",
	kStype:            "K_STYPE",
	kFinalfunc:        "K_FINALFUNC",
	kInitcond:         "K_INITCOND",
	kReturns:          "K_RETURNS",
	kLanguage:         "K_LANGUAGE",
	kCalled:           "K_CALLED",
	kInput:            "K_INPUT",
	kLike:             "K_LIKE",
	kPer:              "K_PER",
	kPartition:        "K_PARTITION",
	kGroup:            "K_GROUP",
	kDatacenters:      "K_DATACENTERS",
	kCidrs:            "K_CIDRS",
	kAccess:           "K_ACCESS",
	kDefault:          "K_DEFAULT",
	kMbean:            "K_MBEAN",
	kMbeans:           "K_MBEANS",
	kReplace:          "K_REPLACE",
	kUnset:            "K_UNSET",
	kMasked:           "K_MASKED",
	kUnmask:           "K_UNMASK",
	kSelectMasked:     "K_SELECT_MASKED",
	kVector:           "K_VECTOR",
	kAnn:              "K_ANN",
	kAscii:            "K_ASCII",
	kBigint:           "K_BIGINT",
	kBlob:             "K_BLOB",
	kBoolean:          "K_BOOLEAN",
	kCounter:          "K_COUNTER",
	kDecimal:          "K_DECIMAL",
	kDouble:           "K_DOUBLE",
	kDuration:         "K_DURATION",
	kFloat:            "K_FLOAT",
	kInet:             "K_INET",
	kInt:              "K_INT",
	kSmallint:         "K_SMALLINT",
	kText:             "K_TEXT",
	kTimestamp:        "K_TIMESTAMP",
	kTinyint:          "K_TINYINT",
	kUuid:             "K_UUID",
	kVarchar:          "K_VARCHAR",
	kVarint:           "K_VARINT",
	kTimeuuid:         "K_TIMEUUID",
	kDate:             "K_DATE",
	kTime:             "K_TIME",
	kTtl:              "K_TTL",
	kCount:            "K_COUNT",
	kWritetime:        "K_WRITETIME",
	kMaxwritetime:     "K_MAXWRITETIME",
	kKey:              "K_KEY",
	kCast:             "K_CAST",
	kJson:             "K_JSON",
	kDistinct:         "K_DISTINCT",
	kSelect:           "K_SELECT",
	kFrom:             "K_FROM",
	kWhere:            "K_WHERE",
	kAnd:              "K_AND",
	kEntries:          "K_ENTRIES",
	kFull:             "K_FULL",
	kInsert:           "K_INSERT",
	kUpdate:           "K_UPDATE",
	kWith:             "K_WITH",
	kLimit:            "K_LIMIT",
	kUsing:            "K_USING",
	kUse:              "K_USE",
	kSet:              "K_SET",
	kBegin:            "K_BEGIN",
	kUnlogged:         "K_UNLOGGED",
	kBatch:            "K_BATCH",
	kApply:            "K_APPLY",
	kTruncate:         "K_TRUNCATE",
	kDelete:           "K_DELETE",
	kIn:               "K_IN",
	kCreate:           "K_CREATE",
	kSchema:           "K_SCHEMA",
	kKeyspace:         "K_KEYSPACE",
	kColumnfamily:     "K_COLUMNFAMILY",
	kMaterialized:     "K_MATERIALIZED",
	kView:             "K_VIEW",
	kIndex:            "K_INDEX",
	kOn:               "K_ON",
	kTo:               "K_TO",
	kDrop:             "K_DROP",
	kPrimary:          "K_PRIMARY",
	kInto:             "K_INTO",
	kAlter:            "K_ALTER",
	kRename:           "K_RENAME",
	kAdd:              "K_ADD",
	kOrder:            "K_ORDER",
	kBy:               "K_BY",
	kAsc:              "K_ASC",
	kDesc:             "K_DESC",
	kAllow:            "K_ALLOW",
	kIf:               "K_IF",
	kIs:               "K_IS",
	kGrant:            "K_GRANT",
	kOf:               "K_OF",
	kRevoke:           "K_REVOKE",
	kModify:           "K_MODIFY",
	kAuthorize:        "K_AUTHORIZE",
	kDescribe:         "K_DESCRIBE",
	kExecute:          "K_EXECUTE",
	kNorecursive:      "K_NORECURSIVE",
	kToken:            "K_TOKEN",
	kNull:             "K_NULL",
	kNot:              "K_NOT",
	kPositiveNan:      "K_POSITIVE_NAN",
	kNegativeNan:      "K_NEGATIVE_NAN",
	kPositiveInfinity: "K_POSITIVE_INFINITY",
	kNegativeInfinity: "K_NEGATIVE_INFINITY",
	kOr:               "K_OR",
}
