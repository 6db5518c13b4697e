"""Names of months and weekdays in eight languages, as CLDR has them.

Not here: how dates are written (``dates.py``). The tables are small, so that what answers requests
needs no library of locales; ``test_calendar_names.py`` holds them against one.
"""

from __future__ import annotations

# January to December; Chinese and Japanese count their months.
_MONTHS = (
    "january february march april may june july august september october november december",
    "jan feb mar apr may jun jul aug sep oct nov dec",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "jänner feb mär apr mai jun jul aug sept okt nov dez",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "janv févr mars avr mai juin juil août sept oct nov déc",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "ene feb mar abr may jun jul ago sept oct nov dic",
    "يناير فبراير مارس أبريل مايو يونيو يوليو أغسطس سبتمبر أكتوبر نوفمبر ديسمبر",
    "كانون_الثاني شباط آذار نيسان أيار حزيران تموز آب أيلول تشرين_الأول تشرين_الثاني كانون_الأول",
    "जनवरी फ़रवरी मार्च अप्रैल मई जून जुलाई अगस्त सितंबर अक्टूबर नवंबर दिसंबर",
    "जन फ़र मार्च अप्रैल मई जून जुल अग सित अक्टू नव दिस",
    "jan फरवरी mar apr may jun jul aug सितम्बर अक्तूबर नवम्बर दिसम्बर",
)
# Sunday to Saturday.
_WEEKDAYS = (
    "sunday monday tuesday wednesday thursday friday saturday",
    "sonntag montag dienstag mittwoch donnerstag freitag samstag",
    "dimanche lundi mardi mercredi jeudi vendredi samedi",
    "domingo lunes martes miércoles jueves viernes sábado",
    "星期日 星期一 星期二 星期三 星期四 星期五 星期六",
    "星期天 礼拜一 礼拜二 礼拜三 礼拜四 礼拜五 礼拜六",
    "周日 周一 周二 周三 周四 周五 周六",
    "週日 週一 週二 週三 週四 週五 週六",
    "日曜 月曜 火曜 水曜 木曜 金曜 土曜",
    "الأحد الاثنين الثلاثاء الأربعاء الخميس الجمعة السبت",
    "रविवार सोमवार मंगलवार बुधवार गुरुवार शुक्रवार शनिवार",
)

MONTHS = {
    name.replace("_", " "): number
    for names in _MONTHS
    for number, name in enumerate(names.split(), 1)
}
WEEKDAYS = {
    name: (number - 1) % 7  # as ``datetime.date.weekday`` counts: Monday is 0
    for names in _WEEKDAYS
    for number, name in enumerate(names.split())
} | {"sonnabend": 5}
