import Testing

@testable import Vocabulary

@Suite struct VocabularyTests {}
