"""Words that lead to an answer without saying anything of it, and words that take one back.

Not here: what is done with them (``label_forms.py``). Any other word before an answer may change
its meaning ("not", "everything but"), so that lists of what is harmless are the safe ones.
"""

from __future__ import annotations

import re

# fmt: off
LEADING = frozenset(
    {
        # English
        *("a", "an", "the", "my", "this", "that", "it", "is", "as", "to", "be", "would", "here"),
        *("s", "i", "classify", "classified", "label", "labels", "labelled", "labeled", "tag"),
        *("tags", "tagged", "answer", "answers", "category", "categories", "class"),
        *("classification", "intent", "topic", "topics", "type", "result", "output"),
        *("response", "prediction"),
        *("predicted", "final", "correct", "right", "best", "most", "likely", "appropriate"),
        *("request", "message", "customer", "user", "of", "for", "under", "belongs", "falls"),
        *("into", "sentiment", "language", "priority", "following", "are", "sure", "certainly"),
        # German
        *("der", "die", "das", "ist", "sind", "antwort", "lautet", "kategorie", "kategorien"),
        *("klasse", "etikett", "etiketten", "thema", "themen", "ergebnis", "anliegen", "richtige"),
        *("anfrage", "gehört", "zu", "zur", "stimmung", "absicht", "schlagwörter", "schlagworte"),
        # French
        *("le", "la", "les", "l", "est", "sont", "réponse", "catégorie", "catégories", "étiquette"),
        *("étiquettes", "classe", "thème", "résultat", "intention", "bonne", "c"),
        # Spanish
        *("el", "los", "las", "es", "son", "respuesta", "categoría", "categorías", "etiqueta"),
        *("etiquetas", "clase", "tema", "resultado", "intención", "correcta"),
        # Arabic
        *("الإجابة", "الجواب", "التصنيف", "الفئة", "الوسم", "النتيجة", "هي", "هو"),
        # Hindi
        *("उत्तर", "जवाब", "लेबल", "श्रेणी", "वर्ग", "परिणाम", "यह", "है"),
        # Chinese and Japanese, before a colon
        *("答案", "标签", "標籤", "类别", "類別", "分类", "分類", "结果", "結果", "回答", "意图"),
        *("答え", "ラベル", "カテゴリ", "カテゴリー"),
    }
)
RETRACTING = frozenset(
    {
        *("actually", "wait", "correction", "instead", "rather", "hmm", "sorry", "wrong", "oops"),
        *("alternatively", "otherwise", "but", "however", "or", "unless", "maybe", "perhaps"),
        *("eigentlich", "moment", "korrektur", "stattdessen", "sondern", "falsch", "aber", "oder"),
        *("vielleicht", "plutôt", "mais", "ou", "pardon", "erreur", "sinon", "pero", "sino"),
        *("perdón", "error", "quizás", "لكن", "أو", "بل", "लेकिन", "या", "बल्कि"),
    }
)
# fmt: on
# "答案是", "答えは": in scripts without spaces no colon has to follow.
SPACELESS_LEAD = re.compile(
    r"(?:最终|正确|正しい)?的?(?:答案|标签|標籤|类别|類別|分类|分類|结果|結果|回答|答え|ラベル|"
    r"カテゴリー?)(?:应该是|應該是|是|为|為|は|：|:)\s*"
)
