"""`icons`: drawings of some 4,000 things in 13 styles with bilingual captions."""
